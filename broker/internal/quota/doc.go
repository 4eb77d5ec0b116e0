// Package quota measures what clients use and says how long those that use too much must wait, as Kafka computes it (KIP-13, KIP-124,
// KIP-546, KIP-599, KIP-612).
//
//	metadata log --> Update --> limits (immutable)      user, client id --> the most specific limit
//	                               |                                           |
//	request --> Record(kind, client, amount) -----------------> rate or bucket of whom the limit counts together --> wait
//
// The limit that applies to a request is that of the first entity which has one:
//
//	user and client id > user, any other client id > user
//	> any other user and client id > any other user and client id > any other user
//	> client id > any other client id
//
// "Any other" is a limit for each of them, not for all together.
//
// Invariants: without quotas a Manager costs one atomic load per question. A change of a quota counts from the next question on;
// what was used before still counts. What has not been used for an hour is forgotten, and never more than Config.Sensors are kept,
// the longest unused of which goes first.
package quota
