// Package controller holds the metadata of the cluster: features, registered brokers, topics, partitions, configurations of topics,
// brokers, groups and client metrics, client quotas, SCRAM credentials, and blocks of producer ids.
//
// All of it is the replay of one log, `__cluster_metadata-0`, of KRaft records. A request never changes state; it computes
// records from the newest image, the records are proposed to the quorum, and replaying them once they are committed is the only
// thing that makes a new image:
//
//	request --> op(pending image) --> records --> Quorum.Propose --> committed --> Replay --> Hooks --> Image()
//	               ^                     |                                                                 |
//	               +---- applied --------+      (pending = committed image + proposed records)             +--> snapshot, now and then
//
// The package does not know what carries the records. Quorum is a single local log today (Local); a Raft node fits the same
// two methods. Records and snapshots have Kafka's bytes: a log that Kafka wrote is replayed, kinds of record that have no meaning here are
// counted.
//
// Invariants:
//   - An Image is immutable. A reader that loaded one may keep it for as long as it likes.
//   - Image.Offset only grows, and the image at an offset depends on nothing but the records up to it.
//   - Image.Records makes the same image again out of nothing, counts of unknown records excepted.
//   - Hooks.Prepare has returned before the image that shows a partition is published; Hooks.Published is called after it.
package controller
