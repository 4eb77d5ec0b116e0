package state_test

import (
	"context"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	"github.com/moldau-stream/moldau/window"
)

// example stands for the *testing.T that an example does not have.
type example struct{ testing.TB }

func (example) Context() context.Context  { return context.Background() }
func (example) Helper()                   {}
func (example) Cleanup(func())            {}
func (example) TempDir() string           { panic("an example has no directory") }
func (example) Fatalf(f string, a ...any) { log.Panicf(f, a...) }
func (example) Errorf(f string, a ...any) { log.Panicf(f, a...) }

// Clicks are user and page.
var (
	clicks = stream.NewTopic("clicks", serde.String, serde.String)
	seen   = stream.NewTopic("seen", serde.String, serde.String)
	noon   = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
)

func print[K, V any](c *state.Cursor[K, V], line func(K, V) string) {
	for k, v := range c.All() {
		fmt.Println(line(k, v))
	}
	if err := c.Err(); err != nil {
		log.Fatal(err)
	}
}

// Clicks per user and minute, asked for from outside of the topology.
func ExampleQueryWindow() {
	perMinute := state.Window("clicks-per-minute", serde.String, serde.Int64).Retention(time.Hour)
	b := stream.NewBuilder()
	stream.Count(stream.WindowedBy(stream.From(b, clicks).GroupByKey(), window.Tumbling(time.Minute)), perMinute)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, clicks)
	in.SendAt(noon, "Bedřich", "/")
	in.SendAt(noon.Add(30*time.Second), "Bedřich", "/vltava")
	in.SendAt(noon.Add(70*time.Second), "Bedřich", "/")
	in.SendAt(noon.Add(80*time.Second), "Leoš", "/")
	d.Commit()

	r, err := state.QueryWindow(context.Background(), d, perMinute)
	if err != nil {
		log.Fatal(err)
	}
	line := func(k window.Key[string], n int64) string {
		return fmt.Sprint(k.Key, " from ", k.Start.Format("15:04"), " to ", k.End.Format("15:04"), ": ", n)
	}
	print(r.Fetch("Bedřich", noon, noon.Add(time.Hour)), line)
	fmt.Println("the last first:")
	print(r.FetchAll(noon, noon.Add(time.Hour)).Reverse(), line)
	// Output:
	// Bedřich from 12:00 to 12:01: 2
	// Bedřich from 12:01 to 12:02: 1
	// the last first:
	// Leoš from 12:01 to 12:02: 1
	// Bedřich from 12:01 to 12:02: 1
	// Bedřich from 12:00 to 12:01: 2
}

// Visits: clicks of a user without a break of more than five minutes.
func ExampleQuerySession() {
	visits := state.Session("visits", serde.String, serde.Int64)
	b := stream.NewBuilder()
	stream.Count(stream.SessionWindowedBy(stream.From(b, clicks).GroupByKey(), window.Session(5*time.Minute).Grace(time.Hour)), visits)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, clicks)
	in.SendAt(noon, "Bedřich", "/")
	in.SendAt(noon.Add(4*time.Minute), "Bedřich", "/vltava")
	in.SendAt(noon.Add(20*time.Minute), "Bedřich", "/")
	d.Commit()

	r, err := state.QuerySession(context.Background(), d, visits)
	if err != nil {
		log.Fatal(err)
	}
	print(r.Fetch("Bedřich"), func(k window.SessionKey[string], n int64) string {
		return fmt.Sprint(k.Start.Format("15:04"), " to ", k.End.Format("15:04"), ": ", n)
	})
	// Output:
	// 12:00 to 12:04: 2
	// 12:20 to 12:20: 1
}

// Which page a user was on at a time.
func ExampleQueryVersioned() {
	pages := state.Versioned("pages", serde.String, serde.String, time.Hour)
	b := stream.NewBuilder()
	stream.TableFrom(b, clicks, pages)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, clicks)
	in.SendAt(noon, "Bedřich", "/")
	in.SendAt(noon.Add(10*time.Minute), "Bedřich", "/vltava")
	in.SendAt(noon.Add(5*time.Minute), "Bedřich", "/late") // it comes late, and takes its place all the same
	d.Commit()

	r, err := state.QueryVersioned(context.Background(), d, pages)
	if err != nil {
		log.Fatal(err)
	}
	page, from, _, err := r.GetAsOf("Bedřich", noon.Add(7*time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("at 12:07:", page, "since", from.Format("15:04"))
	print(r.Versions("Bedřich", noon, noon.Add(time.Hour)), func(v state.Validity, page string) string {
		return fmt.Sprint("from ", v.From.Format("15:04"), ": ", page)
	})
	// Output:
	// at 12:07: /late since 12:05
	// from 12:00: /
	// from 12:05: /late
	// from 12:10: /vltava
}

// A processor that lets a page through once per user and ten minutes.
func ExampleWindow() {
	shown := state.Window("shown", serde.String, serde.String).Retention(time.Hour)
	b := stream.NewBuilder()
	stream.ProcessFunc(stream.From(b, clicks), func(ctx *stream.Context[string, string], r stream.Record[string, string]) error {
		pages := shown.In(ctx)
		recent := pages.Fetch(r.Key, r.Time.Add(-10*time.Minute), r.Time)
		for _, page := range recent.All() {
			if page == r.Value {
				return nil
			}
		}
		if err := recent.Err(); err != nil {
			return err
		}
		if err := pages.Put(r.Key, r.Time, r.Value); err != nil {
			return err
		}
		return ctx.Forward(r)
	}, shown).To(seen)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, clicks)
	in.SendAt(noon, "Bedřich", "/vltava")
	in.SendAt(noon.Add(9*time.Minute), "Bedřich", "/vltava")
	in.SendAt(noon.Add(20*time.Minute), "Bedřich", "/vltava")
	for _, r := range streamtest.Output(d, seen).Drain() {
		fmt.Println(r.Time.Format("15:04"), r.Key, r.Value)
	}
	// Output:
	// 12:00 Bedřich /vltava
	// 12:20 Bedřich /vltava
}

// Who has not clicked for an hour is forgotten.
func ExampleKV_TTL() {
	lastPage := state.KeyValue("last-page", serde.String, serde.String).TTL(time.Hour)
	b := stream.NewBuilder()
	stream.TableFrom(b, clicks, lastPage)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, clicks)
	in.SendAt(noon, "Bedřich", "/vltava")
	in.SendAt(noon.Add(50*time.Minute), "Leoš", "/")
	in.SendAt(noon.Add(70*time.Minute), "Antonín", "/")
	for user, page := range streamtest.All(d, lastPage) {
		fmt.Println(user, page)
	}
	// Output:
	// Antonín /
	// Leoš /
}
