// Package onbroker has scenarios of the conformance corpus go through an application on a broker, exactly-once:
//
//	a record --> input topic --> App --> committed, internal topics are drained --> the next record
//	                                          |
//	output topics: the sequence of each key      changelogs: after perfect compaction      stores: queries at the end
//
// Wall-clock time is the test's. Every step must have its answers as in the corpus, where the order among several keys or
// topics is left open. The package has no code of its own.
package onbroker
