// Package window has definitions of windows, the keys of windowed tables, and the bytes of these keys. Of a key
// with records a, b and c:
//
//	time            0         10        20        30        40
//	Tumbling(10)    [   a     [ b       [         [c        [       one after the other; a record is in one
//	Hopping(20, 10) [   a       b       )                           one begins every 10; a record is in two
//	                          [ b                 )
//	                                    [          c        )
//	Sliding(10)       [ a       b]                                  where records are, here [2, 12]; both ends are in it
//	Session(10)        [a       b]                [c]               [4, 12] and [31, 31]: no gap of more than 10
//	Unlimited()     [   a       b                  c            ... never ends
//
// A definition says which windows a time is in, and how late a record may be for them: Grace, counted in stream time behind the
// end. It holds no records; aggregations of package stream do, in a store of package state:
//
//	stream.WindowedBy(group, Def)                --> KTable[Key[K], V]         state.Window
//	stream.SessionWindowedBy(group, SessionDef)  --> KTable[SessionKey[K], V]  state.Session
//
// Joins of two streams have a definition of their own, join.Window.
//
// # Invariants
//
//   - A definition is a value; its methods return changed copies. What is wrong with it is reported when the topology is built.
//   - Windows are counted in milliseconds since 1970, and none begins before.
//   - The end of a window at a fixed place is not in it; those of a sliding window and of a session are.
//   - Bytes of keys are those of Kafka Streams.
package window
