// Package txn is the transaction coordinator: it gives producer ids and epochs to
// transactional ids, keeps which partitions a transaction has touched, and ends it
// by a marker on each of them (KIP-98, KIP-360, KIP-447, KIP-588).
//
//	InitProducerId ─┐                                    ┌─► partition: commit/abort marker
//	AddPartitions  ─┼─► Service ─► Loop ─► Machine       │
//	AddOffsets     ─┤  (routes by   (one per shard of    ├─► __consumer_offsets: marker
//	EndTxn         ─┘   hash of id)  __transaction_state)│   and its offsets
//	                                  │ Prepare* committed
//	                                  ▼                  │
//	                             marker writer ──────────┘
//	                                  │ all committed
//	                                  ▼
//	                             Machine: Complete*
//
// A transaction goes Empty → Ongoing → PrepareCommit → CompleteCommit (or by abort)
// and from a Complete state to Ongoing again. The record of the Prepare state is the
// commit point: once it is committed, the transaction ends that way, whoever
// coordinates it and however often the broker stops in between.
//
// Invariants:
//
//   - The state of a transactional id is the last record of its key; only
//     Machine.Replay changes it.
//   - Complete* is logged only after a marker is committed on every partition of the
//     transaction that still exists. A crash before it writes the markers again,
//     which is harmless: no partition accepts data of that producer in between,
//     because only an Ongoing transaction is verified.
//   - An epoch that a client was given is never given to a second client. Fencing
//     bumps it; an id whose epochs are used up gets a new producer id.
//   - A partition begins a transaction only if Index.Verify said yes after the producer's
//     last marker there, so no data can follow the marker of its transaction.
//
// What is served is Kafka's transaction.version 1. The records have the fields of
// version 2 (KIP-890), whose difference is one rule in prepare (bump the epoch with
// the Prepare record) and the epoch checks of EndTxn.
package txn
