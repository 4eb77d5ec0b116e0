package stream_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// More topics of the examples.
var (
	songs   = stream.NewTopic("songs", serde.String, serde.String) // singer to text
	lyrics  = stream.NewTopic("lyrics", serde.String, serde.String)
	lengths = stream.NewTopic("lengths", serde.String, serde.Int64)
)

// sing sends three songs through a topology.
func sing(b *stream.Builder) *streamtest.Driver {
	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, songs)
	in.Send("Ema", "la la")
	in.Send("Jan", "tra")
	in.Send("Ema", "hey")
	return d
}

func ExampleKStream_Filter() {
	b := stream.NewBuilder()
	stream.From(b, songs).Filter(func(singer, text string) bool { return singer == "Ema" }).To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// Ema la la
	// Ema hey
}

func ExampleKStream_FilterNot() {
	b := stream.NewBuilder()
	stream.From(b, songs).FilterNot(func(singer, text string) bool { return singer == "Ema" }).To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// Jan tra
}

func ExampleKStream_Peek() {
	b := stream.NewBuilder()
	stream.From(b, songs).Peek(func(singer, _ string) { fmt.Println("heard", singer) }).To(lyrics)
	sing(b)
	// Output:
	// heard Ema
	// heard Jan
	// heard Ema
}

func ExampleKStream_ForEach() {
	b := stream.NewBuilder()
	stream.From(b, songs).ForEach(func(singer, text string) { fmt.Println(singer, len(text)) })
	sing(b)
	// Output:
	// Ema 5
	// Jan 3
	// Ema 3
}

func ExampleKStream_Print() {
	b := stream.NewBuilder()
	stream.From(b, songs).Print(os.Stdout, "song")
	sing(b)
	// Output:
	// [song]: Ema, la la
	// [song]: Jan, tra
	// [song]: Ema, hey
}

func ExampleKStream_Merge() {
	encores := stream.NewTopic("encores", serde.String, serde.String)
	b := stream.NewBuilder()
	stream.From(b, songs).Merge(stream.From(b, encores)).To(lyrics)
	d := sing(b)
	streamtest.Input(d, encores).Send("all", "once more")
	show(d, lyrics)
	// Output:
	// Ema la la
	// Jan tra
	// Ema hey
	// all once more
}

func ExampleKStream_Split() {
	b := stream.NewBuilder()
	branches, rest := stream.From(b, songs).Split(func(_, text string) bool { return len(text) > 3 })
	branches[0].Print(os.Stdout, "long")
	rest.Print(os.Stdout, "short")
	sing(b)
	// Output:
	// [long]: Ema, la la
	// [short]: Jan, tra
	// [short]: Ema, hey
}

func ExampleKStream_SplitNamed() {
	b := stream.NewBuilder()
	stream.From(b, songs).SplitNamed("by-length-", "rest",
		stream.Branch[string, string]{Name: "long", When: func(_, text string) bool { return len(text) > 3 }})
	topology, err := b.Build()
	if err != nil {
		panic(err)
	}
	fmt.Print(topology)
	// Output:
	// Topologies:
	//    Sub-topology: 0
	//     Source: KSTREAM-SOURCE-0000000000 (topics: [songs])
	//       --> by-length-
	//     Processor: by-length- (stores: [])
	//       --> by-length-long, by-length-rest
	//       <-- KSTREAM-SOURCE-0000000000
	//     Processor: by-length-long (stores: [])
	//       --> none
	//       <-- by-length-
	//     Processor: by-length-rest (stores: [])
	//       --> none
	//       <-- by-length-
}

func ExampleMapValues() {
	b := stream.NewBuilder()
	stream.MapValues(stream.From(b, songs), strings.ToUpper).To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// Ema LA LA
	// Jan TRA
	// Ema HEY
}

func ExampleMapEntries() {
	b := stream.NewBuilder()
	stream.MapEntries(stream.From(b, songs), func(singer, text string) string { return singer + ": " + text }).To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// Ema Ema: la la
	// Jan Jan: tra
	// Ema Ema: hey
}

func ExampleMap() {
	b := stream.NewBuilder()
	stream.Map(stream.From(b, songs), func(singer, text string) (string, int64) { return text, int64(len(singer)) }).To(lengths)
	show(sing(b), lengths)
	// Output:
	// la la 3
	// tra 3
	// hey 3
}

func ExampleKeyBy() {
	b := stream.NewBuilder()
	stream.KeyBy(stream.From(b, songs), func(text string) string { return text[:1] }).To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// l la la
	// t tra
	// h hey
}

func ExampleMapKeys() {
	b := stream.NewBuilder()
	stream.MapKeys(stream.From(b, songs), strings.ToUpper).To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// EMA la la
	// JAN tra
	// EMA hey
}

func ExampleSelectKey() {
	b := stream.NewBuilder()
	stream.SelectKey(stream.From(b, songs), func(singer, text string) string { return singer + strconv.Itoa(len(text)) }).To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// Ema5 la la
	// Jan3 tra
	// Ema3 hey
}

func ExampleFlatMapValues() {
	b := stream.NewBuilder()
	stream.FlatMapValues(stream.From(b, songs), strings.FieldsSeq).To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// Ema la
	// Ema la
	// Jan tra
	// Ema hey
}

func ExampleFlatMapEntries() {
	b := stream.NewBuilder()
	stream.FlatMapEntries(stream.From(b, songs), func(singer, text string) iter.Seq[string] {
		return func(yield func(string) bool) {
			if singer == "Ema" {
				_ = yield(text) && yield("encore")
			}
		}
	}).To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// Ema la la
	// Ema encore
	// Ema hey
	// Ema encore
}

func ExampleFlatMap() {
	b := stream.NewBuilder()
	stream.FlatMap(stream.From(b, songs), func(singer, text string) iter.Seq2[string, int64] {
		return maps.All(map[string]int64{text: int64(len(text))})
	}).To(lengths)
	show(sing(b), lengths)
	// Output:
	// la la 5
	// tra 3
	// hey 3
}

func ExampleTryMapValues() {
	b := stream.NewBuilder()
	stream.TryMapValues(stream.From(b, songs), func(text string) (int64, error) {
		if text == "hey" {
			return 0, fmt.Errorf("%q is no song", text)
		}
		return int64(len(text)), nil
	}).To(lengths)
	d := streamtest.New(example{}, b, streamtest.OnError(func(err *stream.RecordError) stream.Action {
		fmt.Println(err.Node, "says:", err.Err)
		return stream.Skip
	}))
	in := streamtest.Input(d, songs)
	in.Send("Ema", "la la")
	in.Send("Jan", "hey")
	show(d, lengths)
	fmt.Println(d.Dropped())
	// Output:
	// KSTREAM-MAPVALUES-0000000001 says: "hey" is no song
	// Ema 5
	// map[process:1]
}

func ExampleTryMap() {
	b := stream.NewBuilder()
	stream.TryMap(stream.From(b, cities), func(person, number string) (string, int64, error) {
		n, err := strconv.ParseInt(number, 10, 64)
		return person, n, err
	}).To(lengths)
	d := streamtest.New(example{}, b, streamtest.OnError(func(*stream.RecordError) stream.Action { return stream.Skip }))
	in := streamtest.Input(d, cities)
	in.Send("Ema", "7")
	in.Send("Jan", "seven")
	show(d, lengths)
	// Output:
	// Ema 7
}

func ExampleKStream_Repartition() {
	b := stream.NewBuilder()
	stream.KeyBy(stream.From(b, songs), func(text string) string { return text[:1] }).
		Repartition(stream.Named("by-letter"), stream.Partitions(3)).To(lyrics)
	d := sing(b)
	fmt.Println(len(d.Records("app-by-letter-repartition")), "records went through the topic")
	// Output:
	// 3 records went through the topic
}

func ExampleKStream_GroupByKey() {
	b := stream.NewBuilder()
	perSinger := state.KeyValue("per-singer", serde.String, serde.Int64)
	stream.Count(stream.From(b, songs).GroupByKey(), perSinger).ToStream().To(lengths)
	show(sing(b), lengths)
	// Output:
	// Ema 1
	// Jan 1
	// Ema 2
}

func ExampleGroupBy() {
	b := stream.NewBuilder()
	byWord := stream.GroupBy(stream.FlatMapValues(stream.From(b, songs), strings.FieldsSeq), strings.ToUpper, stream.Named("by-word"))
	stream.Count(byWord, state.KeyValue("words", serde.String, serde.Int64)).ToStream().To(lengths)
	show(sing(b), lengths)
	// Output:
	// LA 1
	// LA 2
	// TRA 1
	// HEY 1
}

func ExampleGroupByEntries() {
	b := stream.NewBuilder()
	g := stream.GroupByEntries(stream.From(b, songs), func(singer, text string) string { return singer[:1] + text[:1] })
	stream.Count(g, state.KeyValue("initials", serde.String, serde.Int64)).ToStream().To(lengths)
	show(sing(b), lengths)
	// Output:
	// El 1
	// Jt 1
	// Eh 1
}

func ExampleCount() {
	b := stream.NewBuilder()
	perSinger := state.KeyValue("per-singer", serde.String, serde.Int64)
	stream.Count(stream.From(b, songs).GroupByKey(), perSinger)
	fmt.Println(streamtest.Get(sing(b), perSinger, "Ema"))
	// Output:
	// 2 true
}

func ExampleReduce() {
	b := stream.NewBuilder()
	longest := state.KeyValue("longest", serde.String, serde.String)
	stream.Reduce(stream.From(b, songs).GroupByKey(), func(best, text string) string {
		if len(text) > len(best) {
			return text
		}
		return best
	}, longest)
	fmt.Println(streamtest.Get(sing(b), longest, "Ema"))
	// Output:
	// la la true
}

func ExampleAggregate() {
	b := stream.NewBuilder()
	letters := state.KeyValue("letters", serde.String, serde.Int64)
	stream.Aggregate(stream.From(b, songs).GroupByKey(),
		func() int64 { return 0 },
		func(sum int64, text string) int64 { return sum + int64(len(text)) }, letters)
	fmt.Println(streamtest.Get(sing(b), letters, "Ema"))
	// Output:
	// 8 true
}

func ExampleTableFrom() {
	b := stream.NewBuilder()
	last := state.KeyValue("last", serde.String, serde.String)
	stream.TableFrom(b, songs, last)
	fmt.Println(streamtest.Get(sing(b), last, "Ema"))
	// Output:
	// hey true
}

func ExampleKStream_ToTable() {
	b := stream.NewBuilder()
	last := state.KeyValue("last", serde.String, serde.String)
	stream.MapValues(stream.From(b, songs), strings.ToUpper).ToTable(last)
	fmt.Println(streamtest.Get(sing(b), last, "Ema"))
	// Output:
	// HEY true
}

func ExampleKTable_ToStream() {
	b := stream.NewBuilder()
	stream.TableFrom(b, songs, state.KeyValue("last", serde.String, serde.String)).ToStream().To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// Ema la la
	// Jan tra
	// Ema hey
}

func ExampleKTable_Filter() {
	b := stream.NewBuilder()
	long := state.KeyValue("long", serde.String, serde.String)
	stream.TableFrom(b, songs, state.KeyValue("last", serde.String, serde.String)).
		Filter(func(_, text string) bool { return len(text) > 3 }, stream.Materialized(long))
	_, there := streamtest.Get(sing(b), long, "Ema") // "hey" took the place of "la la"
	fmt.Println(there)
	// Output:
	// false
}

func ExampleKTable_FilterNot() {
	b := stream.NewBuilder()
	short := state.KeyValue("short", serde.String, serde.String)
	stream.TableFrom(b, songs, state.KeyValue("last", serde.String, serde.String)).
		FilterNot(func(_, text string) bool { return len(text) > 3 }, stream.Materialized(short))
	fmt.Println(streamtest.Get(sing(b), short, "Ema"))
	// Output:
	// hey true
}

func ExampleMapTable() {
	b := stream.NewBuilder()
	table := stream.TableFrom(b, songs, state.KeyValue("last", serde.String, serde.String))
	stream.MapTable(table, func(text string) int64 { return int64(len(text)) }).ToStream().To(lengths)
	show(sing(b), lengths)
	// Output:
	// Ema 5
	// Jan 3
	// Ema 3
}

func ExampleMapTableEntries() {
	b := stream.NewBuilder()
	table := stream.TableFrom(b, songs, state.KeyValue("last", serde.String, serde.String))
	stream.MapTableEntries(table, func(singer, text string) string { return singer + " sang " + text }).ToStream().To(lyrics)
	show(sing(b), lyrics)
	// Output:
	// Ema Ema sang la la
	// Jan Jan sang tra
	// Ema Ema sang hey
}

func ExampleBuilder_Build() {
	b := stream.NewBuilder()
	stream.From(b, songs).Filter(nil)
	stream.From(b, songs).Peek(func(string, string) {}, stream.Partitions(3))
	_, err := b.Build()
	for line := range strings.Lines(err.Error()) {
		_, message, _ := strings.Cut(line, ": ") // without file and line
		fmt.Print(message)
	}
	// Output:
	// Filter: the function is nil
	// Peek does not take the option Partitions
}

func ExampleTopology_Mermaid() {
	b := stream.NewBuilder()
	stream.Count(stream.From(b, songs).GroupByKey(), state.KeyValue("per-singer", serde.String, serde.Int64)).ToStream().To(lengths)
	topology, err := b.Build()
	if err != nil {
		panic(err)
	}
	fmt.Print(topology.Mermaid())
	// Output:
	// flowchart TD
	//   subgraph s0["sub-topology 0"]
	//     n0["KSTREAM-SOURCE-0000000000"]
	//     n1["KSTREAM-AGGREGATE-0000000001"]
	//     n2["KTABLE-TOSTREAM-0000000002"]
	//     n3["KSTREAM-SINK-0000000003"]
	//     n0 --> n1
	//     n1 --> n2
	//     k0[("per-singer")]
	//     n1 -.- k0
	//     n2 --> n3
	//   end
	//   t0(["songs"])
	//   t0 --> n0
	//   t1(["lengths"])
	//   n3 --> t1
}

func ExampleTopology_JSON() {
	b := stream.NewBuilder()
	stream.Count(stream.From(b, songs).GroupByKey(), state.KeyValue("per-singer", serde.String, serde.Int64))
	topology, err := b.Build()
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.Contains(string(topology.JSON()), `"name": "per-singer"`))
	// Output:
	// true
}

func ExampleKStream_RouteTo() {
	long, short := stream.NewTopic("long", serde.String, serde.String), stream.NewTopic("short", serde.String, serde.String)
	b := stream.NewBuilder()
	stream.From(b, songs).RouteTo(func(_, text string) stream.Topic[string, string] {
		if len(text) > 3 {
			return long
		}
		return short
	})
	d := sing(b)
	show(d, long)
	fmt.Println("and")
	show(d, short)
	// Output:
	// Ema la la
	// and
	// Jan tra
	// Ema hey
}

func ExampleCall() {
	b := stream.NewBuilder()
	tries := 0
	look := func(ctx context.Context, text string) (int64, error) { // asks a service
		if tries++; tries == 1 {
			return 0, errors.New("the service is not there")
		}
		return int64(len(text)), ctx.Err()
	}
	stream.Call(stream.From(b, songs), look, stream.Timeout(time.Second), stream.Retries(5, time.Millisecond)).To(lengths)
	show(sing(b), lengths)
	// Output:
	// Ema 5
	// Jan 3
	// Ema 3
}
