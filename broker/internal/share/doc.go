// Package share delivers the records of a partition to the members of a share group (KIP-932): each record to one member at a time,
// under a lock that ends, until it is acknowledged or was delivered too often.
//
// A Partition is the pure machine of one group on one partition. What it decides is made durable by the share coordinator, the
// State machine, which keeps the state of every share partition in `__share_group_state` and hands it back after a restart:
//
//	ShareFetch, ShareAcknowledge
//	        |
//	        v            Acquire, Acknowledge, Release, Expire
//	     Manager ---------------------------------------------> Partition
//	        |    sessions, locks' ends, parked fetches             | *Write
//	        |                                                      v
//	        '---- answer <---- Written <---- committed <---- States, a coordinator.Loop per
//	                                                         partition of __share_group_state
//
// The records in flight of a partition, between start (the share-partition start offset) and next (the first offset that nobody
// was given):
//
//	              Acquire                    accept
//	Available ----------------> Acquired ----------------> Acknowledged
//	    ^                          |  |   reject, gap
//	    '--------------------------'  '----------------> Archived
//	     release, lock ends, session       also: release at the delivery count limit, the log was cut
//
// Invariants:
//
//   - A record is acquired by at most one member, and only while its lock runs.
//   - An acknowledgement is answered after its state is committed in `__share_group_state`. Until then nobody else gets the record,
//     and if it cannot be written the record is as before.
//   - start moves only past records that are Acknowledged or Archived, or that the log has deleted.
//   - Acquired is never written: after a restart such a record is available again, with the delivery count that was written last.
//   - The state of an offset grows: of two states that were written the one with the higher delivery count wins, then the one with
//     the higher state. So the state does not depend on the order in which batches are combined.
package share
