// Package conformance holds what Kafka Streams answers to random topologies and
// inputs, and a test that builds each topology with the public DSL, drives it
// and finds every answer the same.
//
//	testdata/corpus.jsonl.gz --> build (public DSL over stream.Opt[string])
//	                                |--> Topology.String(), sub-topologies, repartition topics
//	                                v
//	                             streamtest --> output per step, stores, changelogs
//	                                ^    stores in memory, then on disk
//	                                '--- crashes at random steps, if wanted
//
// The test compares exactly; nothing is left out. The text of a topology compares
// line by line, with the names inside [...] as sets, because Kafka Streams
// prints them in no particular order.
//
// Only the standard library and what users of the module can import is used here,
// so every answer can be had by them. TestConformance tells what the variables do.
//
// Package onbroker has the same scenarios go through an application on a broker.
package conformance
