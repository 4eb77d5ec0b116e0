package server

import "github.com/twmb/franz-go/pkg/kmsg"

// groupAPIs are the APIs of the group coordinator, one file each. Versions with topic ids (OffsetCommit and OffsetFetch 10) and
// with the implicit AddOffsetsToTxn of KIP-890 part 2 (TxnOffsetCommit 5) are not served yet.
func groupAPIs() []api {
	return []api{
		serve(&kmsg.OffsetCommitRequest{}, 2, 9, handleOffsetCommit),
		alone(serve(&kmsg.OffsetFetchRequest{}, 1, 9, handleOffsetFetch)),
		serve(&kmsg.JoinGroupRequest{}, 0, 9, handleJoinGroup),
		serve(&kmsg.HeartbeatRequest{}, 0, 4, handleHeartbeat),
		serve(&kmsg.LeaveGroupRequest{}, 0, 5, handleLeaveGroup),
		serve(&kmsg.SyncGroupRequest{}, 0, 5, handleSyncGroup),
		alone(serve(&kmsg.DescribeGroupsRequest{}, 0, 6, handleDescribeGroups)),
		alone(serve(&kmsg.ListGroupsRequest{}, 0, 5, handleListGroups)),
		serve(&kmsg.DeleteGroupsRequest{}, 0, 2, handleDeleteGroups),
		serve(&kmsg.TxnOffsetCommitRequest{}, 0, 5, handleTxnOffsetCommit),
	}
}
