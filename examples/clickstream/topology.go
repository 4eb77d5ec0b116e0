package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

// View is one page that a user has looked at.
type View struct {
	User, Page string
	At         time.Time
}

// User is what is known of a user.
type User struct{ Country string }

// PageViews is a page with how often it was viewed.
type PageViews struct {
	Page  string
	Views int64
}

const (
	pause          = 30 * time.Minute // ends a visit
	unknownCountry = "unknown"
)

var (
	views = stream.NewTopic("views", serde.String, serde.JSON[View]()) // by user
	users = stream.NewTopic("users", serde.String, serde.JSON[User]())

	visits    = stream.NewTopic("visits", window.SessionSerde(serde.String), serde.Int64)
	countries = stream.NewTopic("countries", serde.String, serde.Int64)
	topPages  = stream.NewTopic("top-pages", serde.Int64, serde.JSON[[]PageViews]()) // by the beginning of the hour

	visitStore   = state.Session("visits", serde.String, serde.Int64)
	userStore    = state.KeyValue("users", serde.String, serde.JSON[User]())
	countryStore = state.KeyValue("countries", serde.String, serde.Int64)
	pageStore    = state.Window("pages", serde.String, serde.Int64)
	hourStore    = state.KeyValue("hours", serde.Int64, serde.JSON[map[string]int64]())
)

func build(b *stream.Builder) {
	known := stream.TableFrom(b, users, userStore)
	byUser := stream.From(b, views)
	// Repartitioned records come from several tasks at a time, so they may be late by more than the views were.
	const grace = 48 * time.Hour

	stream.Count(stream.SessionWindowedBy(byUser.GroupByKey(), window.Session(pause).Grace(grace)), visitStore).ToStream().To(visits)

	from := join.LeftTable(byUser, known, func(_ View, u stream.Opt[User]) string { return u.Or(User{unknownCountry}).Country })
	stream.Count(stream.GroupBy(from, func(country string) string { return country }, stream.Named("by-country")), countryStore).
		ToStream().To(countries)

	byPage := stream.GroupBy(byUser, func(v View) string { return v.Page }, stream.Named("by-page"))
	perHour := stream.Count(stream.WindowedBy(byPage, window.Tumbling(time.Hour).Grace(grace)), pageStore)
	hours := stream.GroupTableBy(perHour, func(k window.Key[string], n int64) (int64, PageViews) {
		return k.Start.UnixMilli(), PageViews{k.Key, n}
	}, stream.Named("by-hour"), stream.Serdes(serde.Int64, serde.JSON[PageViews]()))
	pages := stream.AggregateTable(hours, func() map[string]int64 { return map[string]int64{} },
		func(all map[string]int64, p PageViews) map[string]int64 { all[p.Page] = p.Views; return all },
		func(all map[string]int64, p PageViews) map[string]int64 { delete(all, p.Page); return all }, hourStore)
	stream.MapTable(pages, func(all map[string]int64) []PageViews {
		list := make([]PageViews, 0, len(all))
		for page, n := range all {
			list = append(list, PageViews{page, n})
		}
		return best(list)
	}).ToStream().To(topPages)
}

// best are the three most viewed pages.
func best(list []PageViews) []PageViews {
	slices.SortFunc(list, func(a, b PageViews) int {
		return cmp.Or(cmp.Compare(b.Views, a.Views), cmp.Compare(a.Page, b.Page))
	})
	return list[:min(3, len(list))]
}
