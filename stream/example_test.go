package stream_test

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
)

// example stands for the *testing.T that an example does not have.
type example struct{ testing.TB }

func (example) Context() context.Context  { return context.Background() }
func (example) Helper()                   {}
func (example) Cleanup(func())            {}
func (example) TempDir() string           { panic("an example has no directory") }
func (example) Fatalf(f string, a ...any) { log.Panicf(f, a...) }
func (example) Errorf(f string, a ...any) { log.Panicf(f, a...) }

// The topics of the examples.
var (
	cities    = stream.NewTopic("cities", serde.String, serde.String) // person to city
	perCity   = stream.NewTopic("per-city", serde.String, serde.Int64)
	cityStore = state.KeyValue("city-of-person", serde.String, serde.String)
)

// show prints the records of a topic.
func show[K, V any](d *streamtest.Driver, t stream.Topic[K, V]) {
	for _, r := range streamtest.Output(d, t).Drain() {
		fmt.Println(r.Key, r.Value)
	}
}

func byCity(person, city string) (string, string) { return city, person }

// How many people live in each city, also when they move.
func ExampleCountTable() {
	b := stream.NewBuilder()
	people := stream.TableFrom(b, cities, cityStore)
	inhabitants := state.KeyValue("inhabitants", serde.String, serde.Int64)
	stream.CountTable(stream.GroupTableBy(people, byCity), inhabitants).ToStream().To(perCity)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, cities)
	in.Send("Bedřich", "Praha")
	in.Send("Leoš", "Brno")
	in.Send("Leoš", "Praha")
	show(d, perCity)
	// Output:
	// Praha 1
	// Brno 1
	// Brno 0
	// Praha 2
}

// What people of a city earn together: a person who moves takes the salary along.
func ExampleAggregateTable() {
	type person struct {
		City   string
		Salary int
	}
	people := stream.NewTopic("people", serde.String, serde.JSON[person]())
	salaries := stream.NewTopic("salaries", serde.String, serde.JSON[int]())

	b := stream.NewBuilder()
	table := stream.TableFrom(b, people, state.KeyValue("people", serde.String, serde.JSON[person]()))
	byCity := stream.GroupTableBy(table, func(_ string, p person) (string, int) { return p.City, p.Salary })
	stream.AggregateTable(byCity,
		func() int { return 0 },
		func(sum, salary int) int { return sum + salary },
		func(sum, salary int) int { return sum - salary },
		state.KeyValue("salaries", serde.String, serde.JSON[int]())).ToStream().To(salaries)
	stream.Use(b, serde.JSON[int]())

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, people)
	in.Send("Bedřich", person{"Praha", 100})
	in.Send("Leoš", person{"Brno", 80})
	in.Send("Leoš", person{"Praha", 90})
	show(d, salaries)
	// Output:
	// Praha 100
	// Brno 80
	// Brno 0
	// Praha 190
}

// The sum of the rows of each group.
func ExampleReduceTable() {
	prices := stream.NewTopic("prices", serde.String, serde.Int64)
	sums := stream.NewTopic("sums", serde.String, serde.Int64)

	b := stream.NewBuilder()
	table := stream.TableFrom(b, prices, state.KeyValue("prices", serde.String, serde.Int64))
	all := stream.GroupTableBy(table, func(_ string, price int64) (string, int64) { return "all", price })
	stream.ReduceTable(all,
		func(sum, price int64) int64 { return sum + price },
		func(sum, price int64) int64 { return sum - price },
		state.KeyValue("sum", serde.String, serde.Int64)).ToStream().To(sums)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, prices)
	in.Send("bread", 30)
	in.Send("milk", 25)
	in.Send("bread", 35)
	show(d, sums)
	// Output:
	// all 30
	// all 55
	// all 60
}

// A price as of a time: a late change is kept with its time, and changes that are too late are left out.
func ExampleTableFrom_versioned() {
	prices := stream.NewTopic("prices", serde.String, serde.Int64)
	history := state.Versioned("price-history", serde.String, serde.Int64, time.Hour)

	b := stream.NewBuilder()
	stream.CountTable(
		stream.GroupTableBy(stream.TableFrom(b, prices, history), func(_ string, price int64) (int64, string) { return price, "" }),
		state.KeyValue("with-price", serde.Int64, serde.Int64))

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, prices)
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	in.SendAt(noon, "bread", 30)
	in.SendAt(noon.Add(-time.Minute), "bread", 29) // it had this price until noon
	in.SendAt(noon.Add(-2*time.Hour), "bread", 28) // nobody wants to know any more
	fmt.Println(d.Dropped())
	// Output:
	// map[expired:1 stale:1]
}

// A table that is restored from its own topic needs no changelog.
func ExampleOptimize_reuseSourceTopics() {
	b := stream.NewBuilder()
	stream.TableFrom(b, cities, state.KeyValue("cities", serde.String, serde.String))
	topology, err := b.Build(stream.Optimize(stream.ReuseSourceTopics))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(topology.ChangelogTopics())
	// Output: []
}

// Two aggregations by the same new key read one repartition topic.
func ExampleOptimize() {
	b := stream.NewBuilder()
	byCity := stream.KeyBy(stream.From(b, cities), func(city string) string { return city })
	stream.Count(byCity.GroupByKey(stream.Named("to-count")), state.KeyValue("counts", serde.String, serde.Int64))
	longest := func(a, b string) string { return max(a, b) }
	stream.Reduce(byCity.GroupByKey(stream.Named("to-reduce")), longest, state.KeyValue("longest", serde.String, serde.String))

	topology, err := b.Build(stream.Optimize(stream.MergeRepartitionTopics))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(topology.RepartitionTopics())
	// Output: [to-count-repartition]
}
