// Command clickstream makes of page views what a shop wants to know of its visitors:
//
//	views --by user--+--> visits: sessions that end after half an hour without a view --> visits
//	                 +--> country of the user (table "users") --> views per country ----> countries
//	                 +--> views per page and hour --> the three most viewed pages of each hour --> top-pages
//
// The views are made from a seed, and all three results are checked against a plain computation.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/examples/internal/cluster"
	"github.com/moldau-stream/moldau/stream"
)

func main() { cluster.Main("clickstream", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, g, err := cluster.Parse("clickstream", args, 200_000, stderr)
	if err != nil {
		return err
	}
	c, err := cluster.Open(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	inputs := []string{views.Name(), users.Name()}
	if err := c.CreateTopics(ctx, append(inputs, visits.Name(), countries.Name(), topPages.Name())...); err != nil {
		return err
	}
	b := stream.NewBuilder()
	build(b)
	topology, err := b.Build()
	if err != nil {
		return err
	}
	who, all := generate(&g)
	records := func(yield func(*kgo.Record, error) bool) {
		for name, u := range who {
			if !yield(cluster.Record(users.Name(), name, g.Begin().Add(-time.Hour), u)) {
				return
			}
		}
		for _, v := range all {
			if !yield(cluster.Record(views.Name(), v.User, v.At, v)) {
				return
			}
		}
	}
	if err := c.Process(ctx, &g, "clickstream", topology, inputs, records, nil, stdout); err != nil {
		return err
	}
	got, err := readResults(ctx, c)
	if err != nil {
		return err
	}
	want := recompute(who, all)
	if err := errors.Join(same("visit", got.visits, want.visits), same("country", got.countries, want.countries), same("hour", got.top, want.top)); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "verified: %d visits, %d countries, the most viewed pages of %d hours\n", len(want.visits), len(want.countries), len(want.top))
	return nil
}

// results are the output topics: the last value of each key.
type results struct {
	visits    map[visit]int64
	countries map[string]int64
	top       map[time.Time]string
}

type visit struct {
	user       string
	start, end time.Time
}

func readResults(ctx context.Context, c *cluster.Cluster) (*results, error) {
	r := &results{map[visit]int64{}, map[string]int64{}, map[time.Time]string{}}
	number := func(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }
	err := errors.Join(
		c.ReadAll(ctx, visits.Name(), func(rec *kgo.Record) error {
			n := len(rec.Key) - 16
			v := visit{string(rec.Key[:n]), time.UnixMilli(number(rec.Key[n+8:])).UTC(), time.UnixMilli(number(rec.Key[n:])).UTC()}
			if rec.Value == nil {
				delete(r.visits, v) // became a part of a longer one
				return nil
			}
			r.visits[v] = number(rec.Value)
			return nil
		}),
		c.ReadAll(ctx, countries.Name(), func(rec *kgo.Record) error {
			r.countries[string(rec.Key)] = number(rec.Value)
			return nil
		}),
		c.ReadAll(ctx, topPages.Name(), func(rec *kgo.Record) error {
			var best []PageViews
			if err := json.Unmarshal(rec.Value, &best); err != nil {
				return err
			}
			r.top[time.UnixMilli(number(rec.Key)).UTC()] = fmt.Sprint(best)
			return nil
		}))
	return r, err
}

// recompute makes the same of the events by counting and sorting.
func recompute(who map[string]User, all []View) *results {
	r := &results{map[visit]int64{}, map[string]int64{}, map[time.Time]string{}}
	byUser := map[string][]time.Time{}
	byHour := map[time.Time]map[string]int64{}
	for _, v := range all {
		byUser[v.User] = append(byUser[v.User], v.At)
		country := unknownCountry
		if u, ok := who[v.User]; ok {
			country = u.Country
		}
		r.countries[country]++
		hour := v.At.Truncate(time.Hour)
		if byHour[hour] == nil {
			byHour[hour] = map[string]int64{}
		}
		byHour[hour][v.Page]++
	}
	for user, times := range byUser {
		slices.SortFunc(times, time.Time.Compare)
		now, n := visit{user, times[0], times[0]}, int64(0)
		for _, at := range times {
			if at.Sub(now.end) > pause {
				r.visits[now] = n
				now, n = visit{user, at, at}, 0
			}
			now.end = at
			n++
		}
		r.visits[now] = n
	}
	for hour, pages := range byHour {
		var list []PageViews
		for page, n := range pages {
			list = append(list, PageViews{page, n})
		}
		r.top[hour] = fmt.Sprint(best(list))
	}
	return r
}

// same compares two maps and names the first difference.
func same[K, V comparable](what string, got, want map[K]V) error {
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			return fmt.Errorf("%s %v is %v instead of %v", what, k, g, v)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d results of kind %s instead of %d", len(got), what, len(want))
	}
	return nil
}
