// Package dsl is what the packages of the DSL (stream, join) share: how a call becomes nodes of the graph.
//
//	stream.KStream[K,V]  --- Edge[K,V] ----+
//	stream.KTable[K,V]   --- Table[K,V] ---+--> topo.Node with its Wire     (at the call)
//	options, serdes, names ----------------+           |
//	                                                   v
//	                            func(K,V,Meta) error, Lookup[K,V], TableStore[K,V]   (in a task)
//
// A handle of the DSL holds an Edge or a Table. An operator takes them apart, adds nodes, and makes new ones.
//
// Invariants:
//   - an Edge is a value and never changes; what is settled only when the topology is built (whether a
//     table is stored, whether it sends old values) stands in the TableNode that all handles of the table share;
//   - a mistake of a call is recorded in the Builder with the caller's file and line, and the call returns
//     a handle that can be used further.
package dsl
