package server

import "github.com/twmb/franz-go/pkg/kmsg"

// groupAPIs are the APIs of the group coordinator, one file each.
func groupAPIs() []api {
	return []api{
		serve(&kmsg.OffsetCommitRequest{}, 2, 10, handleOffsetCommit),
		serve(&kmsg.OffsetFetchRequest{}, 1, 10, handleOffsetFetch),
		serve(&kmsg.JoinGroupRequest{}, 0, 9, handleJoinGroup),
		serve(&kmsg.HeartbeatRequest{}, 0, 4, handleHeartbeat),
		serve(&kmsg.LeaveGroupRequest{}, 0, 5, handleLeaveGroup),
		serve(&kmsg.SyncGroupRequest{}, 0, 5, handleSyncGroup),
		serve(&kmsg.DescribeGroupsRequest{}, 0, 6, handleDescribeGroups),
		serve(&kmsg.ListGroupsRequest{}, 0, 5, handleListGroups),
		serve(&kmsg.DeleteGroupsRequest{}, 0, 2, handleDeleteGroups),
		serve(&kmsg.TxnOffsetCommitRequest{}, 0, 5, handleTxnOffsetCommit),
		serve(&kmsg.OffsetDeleteRequest{}, 0, 0, handleOffsetDelete),
		serve(&kmsg.ConsumerGroupHeartbeatRequest{}, 0, 1, handleConsumerGroupHeartbeat),
		serve(&kmsg.ConsumerGroupDescribeRequest{}, 0, 1, handleConsumerGroupDescribe),
	}
}
