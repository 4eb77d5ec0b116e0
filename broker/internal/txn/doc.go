// Package txn is the transaction coordinator: it gives producer ids and epochs to
// transactional ids, keeps which partitions a transaction has touched, and ends it
// by a marker on each of them (KIP-98, KIP-360, KIP-447, KIP-588, KIP-890).
//
//	InitProducerId ─┐                                    ┌─► partition: commit/abort marker
//	AddPartitions  ─┤                                    │
//	AddOffsets     ─┼─► Service ─► Loop ─► Machine       ├─► __consumer_offsets: marker
//	EndTxn         ─┤  (routes by   (one per shard of    │   and its offsets
//	Produce ≥ 12   ─┘   hash of id)  __transaction_state)│
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
// Clients come in two kinds, by transaction.version. Below 2 they add partitions by
// requests of their own and keep their epoch from one transaction to the next. From 2
// on (KIP-890) partitions are added by producing to them, and each end raises the
// epoch: a producer id and epoch are good for one transaction. One client may do both,
// one after the other; each request tells by its version which it is.
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
//   - A client with transaction.version 2 never has two transactions in one epoch, so
//     that a request or batch of the one cannot touch the other.
//   - A partition begins a transaction only if Verify said yes, or Add was committed, after
//     the producer's last marker there, so no data can follow the marker of its transaction.
package txn
