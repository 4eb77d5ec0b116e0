// Package server speaks the Kafka protocol: it owns the listeners and connections, bounds and decodes what comes in, calls the
// handler of each API, and keeps the answers in order.
//
//	listener --> gate -.                    .--> produce.go, fetch.go --------> replica.Manager --> log
//	                    +--> Conn --> walk -+--> metadata.go, create_topics.go --> controller
//	DialContext --------'    login   decode '--> join_group.go, end_txn.go ... --> group, txn
//	                         frame                                |
//	                           ^                                  |
//	                           '-- answer, in order, of quotas <--'  now, or parked until committed
//
// Every key that the server answers has one file, and a row in the table of apis; nothing else is advertised.
//
// Invariants:
//   - A frame costs at most what is bounded: its size, the memory of its decoding, the number of requests per connection, and
//     the bytes of all large requests and fetched records together. What breaks a bound, or cannot be decoded, closes its
//     connection with a logged reason.
//   - No handler waits on the connection's goroutine for a disk or another client, but a Produce that adds a partition to its
//     transaction: it waits for that to be committed, so that nothing behind it on the connection overtakes it.
//   - An answer that promises durability leaves after the commit of what it promises.
package server
