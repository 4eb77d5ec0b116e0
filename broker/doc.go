// Package broker is a broker that speaks the Kafka protocol, for embedding in a program or for a process of its own.
//
//	b, err := broker.Start(ctx, broker.Config{})         // in memory, reachable within the process only
//	...
//	client, err := kgo.NewClient(kgo.Dialer(b.DialContext), kgo.SeedBrokers(broker.InProcessAddr))
//	...
//	err = b.Close()
//
// What happens to a produce request and where everything is:
//
//	Start, Close      this package: configuration, order of boot and shutdown
//	   |
//	server            connections, frames, one file per API
//	   |-- controller topics and their configuration: one log, replayed
//	   |-- group, txn coordinators: pure machines over logs
//	   '-- replica    partitions, group commit, retention
//	          '-- log segments, indexes, recovery --> vfs
//
// Invariants:
//   - Start has returned nil only if the broker serves; it holds the lock of its directory then.
//   - Done is closed once nothing of the broker runs any more and every file is closed; Err tells why it ended.
//   - A failed fsync ends the broker: what the disk then holds is unknown, and a restart finds out.
package broker
