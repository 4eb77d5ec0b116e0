package join_test

import (
	"context"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

var (
	orders   = stream.NewTopic("orders", serde.String, serde.String)
	payments = stream.NewTopic("payments", serde.String, serde.String)
	results  = stream.NewTopic("results", serde.String, serde.String)

	orderRows   = state.KeyValue("orders", serde.String, serde.String)
	paymentRows = state.KeyValue("payments", serde.String, serde.String)
)

// example is the testing.TB of a driver in an example.
type example struct{ testing.TB }

func (example) Context() context.Context          { return context.Background() }
func (example) Helper()                           {}
func (example) Cleanup(func())                    {}
func (example) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// feed sends records "topic key value" a second apart and shows the results.
func feed(b *stream.Builder, records ...[3]string) {
	d := streamtest.New(example{}, b)
	in := map[string]*streamtest.In[string, string]{}
	read := map[string]stream.Topic[string, string]{"orders": orders, "payments": payments}
	for i, r := range records {
		if in[r[0]] == nil {
			in[r[0]] = streamtest.Input(d, read[r[0]])
		}
		in[r[0]].SendAt(time.Unix(int64(i), 0), r[1], r[2])
	}
	for _, r := range streamtest.Output(d, results).Drain() {
		fmt.Println(r.Key, r.Value)
	}
}

var shop = [][3]string{
	{"orders", "o1", "tea"},
	{"payments", "o1", "cash"},
	{"payments", "o2", "card"},
	{"orders", "o3", "jam"},
	{"orders", "o2", "salt"},
	{"orders", "o9", "end"},
	{"orders", "o9", "end"},
}

func andThen(l, r string) string                         { return l + "+" + r }
func orNothing(l string, r stream.Opt[string]) string    { return l + "+" + r.Or("-") }
func either(l, r stream.Opt[string]) string              { return l.Or("-") + "+" + r.Or("-") }
func keyed(k, l, r string) string                        { return k + ":" + l + "+" + r }
func keyedLeft(k, l string, r stream.Opt[string]) string { return k + ":" + l + "+" + r.Or("-") }
func keyedEither(k string, l, r stream.Opt[string]) string {
	return k + ":" + l.Or("-") + "+" + r.Or("-")
}

var window = join.Within(2 * time.Second)

func ExampleStreams() {
	b := stream.NewBuilder()
	join.Streams(stream.From(b, orders), stream.From(b, payments), window, andThen).To(results)
	feed(b, shop...)
	// Output:
	// o1 tea+cash
	// o2 salt+card
}

func ExampleStreamsWithKey() {
	b := stream.NewBuilder()
	join.StreamsWithKey(stream.From(b, orders), stream.From(b, payments), window, keyed).To(results)
	feed(b, shop...)
	// Output:
	// o1 o1:tea+cash
	// o2 o2:salt+card
}

func ExampleLeftStreams() {
	b := stream.NewBuilder()
	join.LeftStreams(stream.From(b, orders), stream.From(b, payments), join.Within(time.Second), orNothing).To(results)
	feed(b, shop...)
	// Output:
	// o1 tea+cash
	// o3 jam+-
	// o2 salt+-
}

func ExampleLeftStreamsWithKey() {
	b := stream.NewBuilder()
	join.LeftStreamsWithKey(stream.From(b, orders), stream.From(b, payments), join.Within(time.Second), keyedLeft).To(results)
	feed(b, shop[:6]...)
	// Output:
	// o1 o1:tea+cash
	// o3 o3:jam+-
}

func ExampleOuterStreams() {
	b := stream.NewBuilder()
	join.OuterStreams(stream.From(b, orders), stream.From(b, payments), join.Within(time.Second), either).To(results)
	feed(b, shop...)
	// Output:
	// o1 tea+cash
	// o2 -+card
	// o3 jam+-
	// o2 salt+-
}

func ExampleOuterStreamsWithKey() {
	b := stream.NewBuilder()
	join.OuterStreamsWithKey(stream.From(b, orders), stream.From(b, payments), window, keyedEither).To(results)
	feed(b, shop...)
	// Output:
	// o1 o1:tea+cash
	// o2 o2:salt+card
	// o3 o3:jam+-
}

func ExampleTable() {
	b := stream.NewBuilder()
	join.Table(stream.From(b, orders), stream.TableFrom(b, payments, paymentRows), andThen).To(results)
	feed(b, shop...)
	// Output:
	// o2 salt+card
}

func ExampleTableWithKey() {
	b := stream.NewBuilder()
	join.TableWithKey(stream.From(b, orders), stream.TableFrom(b, payments, paymentRows), keyed).To(results)
	feed(b, shop...)
	// Output:
	// o2 o2:salt+card
}

func ExampleLeftTable() {
	b := stream.NewBuilder()
	join.LeftTable(stream.From(b, orders), stream.TableFrom(b, payments, paymentRows), orNothing).To(results)
	feed(b, shop[:5]...)
	// Output:
	// o1 tea+-
	// o3 jam+-
	// o2 salt+card
}

func ExampleLeftTableWithKey() {
	b := stream.NewBuilder()
	join.LeftTableWithKey(stream.From(b, orders), stream.TableFrom(b, payments, paymentRows), keyedLeft).To(results)
	feed(b, shop[:4]...)
	// Output:
	// o1 o1:tea+-
	// o3 o3:jam+-
}

// The versions of a table are looked up at the time of the record, and Grace waits for those that come late.
func ExampleGrace() {
	b := stream.NewBuilder()
	versions := state.Versioned("payments", serde.String, serde.String, time.Minute)
	join.LeftTable(stream.From(b, orders), stream.TableFrom(b, payments, versions), orNothing, join.Grace(2*time.Second)).To(results)
	feed(b, shop[:6]...)
	// Output:
	// o1 tea+-
	// o3 jam+-
}

func ExampleGlobal() {
	b := stream.NewBuilder()
	toPayment := func(order, _ string) string { return order }
	join.Global(stream.From(b, orders), stream.GlobalFrom(b, payments, paymentRows), toPayment, andThen).To(results)
	feed(b, shop...)
	// Output:
	// o2 salt+card
}

func ExampleGlobalWithKey() {
	b := stream.NewBuilder()
	toPayment := func(order, _ string) string { return order }
	join.GlobalWithKey(stream.From(b, orders), stream.GlobalFrom(b, payments, paymentRows), toPayment, keyed).To(results)
	feed(b, shop...)
	// Output:
	// o2 o2:salt+card
}

func ExampleLeftGlobal() {
	b := stream.NewBuilder()
	toPayment := func(order, _ string) string { return order }
	join.LeftGlobal(stream.From(b, orders), stream.GlobalFrom(b, payments, paymentRows), toPayment, orNothing).To(results)
	feed(b, shop[:5]...)
	// Output:
	// o1 tea+-
	// o3 jam+-
	// o2 salt+card
}

func ExampleLeftGlobalWithKey() {
	b := stream.NewBuilder()
	toPayment := func(order, _ string) string { return order }
	join.LeftGlobalWithKey(stream.From(b, orders), stream.GlobalFrom(b, payments, paymentRows), toPayment, keyedLeft).To(results)
	feed(b, shop[:4]...)
	// Output:
	// o1 o1:tea+-
	// o3 o3:jam+-
}

func tables(b *stream.Builder) (l, r stream.KTable[string, string]) {
	return stream.TableFrom(b, orders, orderRows), stream.TableFrom(b, payments, paymentRows)
}

func ExampleTables() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.Tables(l, r, andThen).ToStream().To(results)
	feed(b, shop...)
	// Output:
	// o1 tea+cash
	// o2 salt+card
}

func ExampleTablesWithKey() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.TablesWithKey(l, r, keyed).ToStream().To(results)
	feed(b, shop...)
	// Output:
	// o1 o1:tea+cash
	// o2 o2:salt+card
}

func ExampleLeftTables() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.LeftTables(l, r, orNothing).ToStream().To(results)
	feed(b, shop[:5]...)
	// Output:
	// o1 tea+-
	// o1 tea+cash
	// o3 jam+-
	// o2 salt+card
}

func ExampleLeftTablesWithKey() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.LeftTablesWithKey(l, r, keyedLeft).ToStream().To(results)
	feed(b, shop[:2]...)
	// Output:
	// o1 o1:tea+-
	// o1 o1:tea+cash
}

func ExampleOuterTables() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.OuterTables(l, r, either).ToStream().To(results)
	feed(b, shop[:5]...)
	// Output:
	// o1 tea+-
	// o1 tea+cash
	// o2 -+card
	// o3 jam+-
	// o2 salt+card
}

func ExampleOuterTablesWithKey() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.OuterTablesWithKey(l, r, keyedEither).ToStream().To(results)
	feed(b, shop[:3]...)
	// Output:
	// o1 o1:tea+-
	// o1 o1:tea+cash
	// o2 o2:-+card
}

// What an order is of, here the order itself, is the key of another table.
var stock = [][3]string{
	{"orders", "o1", "tea"},
	{"payments", "tea", "3 left"},
	{"orders", "o2", "tea"},
	{"payments", "tea", "1 left"},
	{"orders", "o3", "jam"},
}

func product(order string) string           { return order }
func productWithKey(_, order string) string { return order }

func ExampleForeignKey() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.ForeignKey(l, r, product, andThen).ToStream().To(results)
	feed(b, stock...)
	// Output:
	// o1 tea+3 left
	// o2 tea+3 left
	// o1 tea+1 left
	// o2 tea+1 left
}

func ExampleForeignKeyWithKey() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.ForeignKeyWithKey(l, r, productWithKey, keyed).ToStream().To(results)
	feed(b, stock[:3]...)
	// Output:
	// o1 o1:tea+3 left
	// o2 o2:tea+3 left
}

func ExampleLeftForeignKey() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.LeftForeignKey(l, r, product, orNothing).ToStream().To(results)
	feed(b, stock[:3]...)
	// Output:
	// o1 tea+-
	// o1 tea+3 left
	// o2 tea+3 left
}

func ExampleLeftForeignKeyWithKey() {
	b := stream.NewBuilder()
	l, r := tables(b)
	join.LeftForeignKeyWithKey(l, r, productWithKey, keyedLeft).ToStream().To(results)
	feed(b, stock[:2]...)
	// Output:
	// o1 o1:tea+-
	// o1 o1:tea+3 left
}

// A stream that is joined with itself needs one window store and its changelog, not two.
func ExampleStreams_withItself() {
	b := stream.NewBuilder()
	s := stream.From(b, orders)
	join.Streams(s, s, window, andThen, join.Stores("pairs")).To(results)
	topology, err := b.Build(stream.Optimize(stream.SelfJoin))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(topology.ChangelogTopics())
	// Output: [pairs-this-join-store-changelog]
}
