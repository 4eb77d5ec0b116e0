// Package stream is a typed stream-processing DSL in the manner of Kafka Streams, and the
// application that runs it on any cluster that speaks the Kafka protocol.
//
//	var (
//		lines  = stream.NewTopic("lines", serde.String, serde.String)
//		counts = state.KeyValue("counts", serde.String, serde.Int64)
//		output = stream.NewTopic("word-counts", serde.String, serde.Int64)
//	)
//
//	b := stream.NewBuilder()
//	words := stream.FlatMapValues(stream.From(b, lines), strings.FieldsSeq)
//	byWord := stream.GroupBy(words, strings.ToLower, stream.Named("by-word"))
//	stream.Count(byWord, counts).ToStream().To(output)
//	topology, err := b.Build()
//	app, err := stream.New(topology, stream.Config{AppID: "wc", Brokers: brokers})
//	err = app.Run(ctx)
//
// From calls to closures:
//
//	KStream[K,V] --.Filter(f)--> KStream[K,V]     typed handles, checked by the compiler
//	     |                            |
//	   Node -----------------------> Node          internal/topo: names, stores, sub-topologies
//	     |                            |
//	 func(K,V,Meta) error -----> func(K,V,Meta)    one closure per node and task, wired by
//	                                               internal/task: no boxing on the way of a record
//
// An operator that keeps both types of a stream is a method; one that brings in
// another type is a function whose first argument is the stream. Mistakes neither
// panic nor return errors one by one: Build reports all of them, with file and line.
//
// # Null
//
// Keys and values can be null, which is not the empty value. A function over a type
// that can be null (Opt[T], []byte) gets and returns nulls. A function over another
// type never sees one: MapValues leaves a null value null, Filter lets the record
// pass, Peek and ForEach skip it, Split sends it to the rest, and operators that
// need what is missing drop the record and count it. On tables null deletes.
//
// # Functions
//
// A function must not change the bytes of what it is given: keys and values of type []byte, slices and strings
// inside of decoded values, and headers may be the memory of the batch that they came in. Other operators after the same stream, and
// the same record after Retry, would see the change. It may keep nothing of them either after it returned, but a
// copy. Only the accumulator of Aggregate is the function's to change.
//
// # Tables
//
// A table emits the last change of each key at every commit (EmitPerCommit), or each
// change at once (EmitPerUpdate), or the last one once in an interval (EmitEvery); with
// EmitOnChange only what differs. That decides how often one sees a table, never
// what it holds.
//
// # Time
//
// Every record has a time: its timestamp, or what Topic.EventTime makes of it. Stream time is the largest time that a task, or an
// operator that goes by time, has seen. Windows close by it, records come too late by it, and what is held back goes on.
// It stands still without input, unless Config.IdleAdvance says otherwise.
// It is committed with the offsets, so that no result depends on when an application was restarted.
//
// # Invariants
//
//   - Names, internal topics, their formats and the text of a topology are those of
//     Kafka Streams for the same calls.
//   - A handle is a value and never changes; the builder is not safe for several
//     goroutines.
//   - A record is processed completely or not at all, whatever fails (see Action).
package stream
