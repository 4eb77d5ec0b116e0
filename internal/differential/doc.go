// Package differential asks Apache Kafka and our broker the same things and compares what they answer, field by field.
//
//	seed -> generator -> Sequence (data: requests with ${variables}, batches as descriptions)
//	                        |
//	          +-------------+--------------+
//	          v                            v
//	  side "kafka"                   side "ours"          each: connections, variables, names of ids
//	  raw frames to Apache Kafka     raw frames to ours
//	  (or a recording of it)
//	          |                            |
//	       canonical text  <- compare ->  canonical text
//	                        |
//	               minimizer, signature, report
//
// Invariants:
//
//   - A sequence is data. It holds no time and no id of a broker, so that it can be stored, minimized and run again.
//   - Names of a sequence begin with "~", which each run replaces by a prefix of its own: one broker serves many runs.
//   - Masked are only things that no client can rely on: ids (renamed in the order in which they appear, so that two answers
//     with the same id stay two answers with the same id), times near now, addresses, directories, sizes of disks. canon.go
//     has the list.
//   - Where Apache Kafka works behind its answer (a topic that is not everywhere yet, markers of a transaction), the runner waits
//     and asks again as a client does; settle.go has the list. It never treats a retriable error as equal to an answer.
//   - A request that neither broker answers at once is parked; it must be answered by both after the same step, or by none.
//
// What may differ is in known.go, each with its reason, and in docs/kafka.md.
package differential
