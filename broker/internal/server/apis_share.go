package server

import "github.com/twmb/franz-go/pkg/kmsg"

// shareAPIs are the APIs of share groups (KIP-932), one file each.
func shareAPIs() []api {
	return []api{
		serve(&kmsg.ShareGroupHeartbeatRequest{}, 1, 1, handleShareGroupHeartbeat),
		serve(&kmsg.ShareGroupDescribeRequest{}, 1, 1, handleShareGroupDescribe),
		serve(&kmsg.ShareFetchRequest{}, 1, 2, handleShareFetch),
		serve(&kmsg.ShareAcknowledgeRequest{}, 1, 2, handleShareAcknowledge),
		serve(&kmsg.DescribeShareGroupOffsetsRequest{}, 0, 1, handleDescribeShareGroupOffsets),
		serve(&kmsg.AlterShareGroupOffsetsRequest{}, 0, 0, handleAlterShareGroupOffsets),
		serve(&kmsg.DeleteShareGroupOffsetsRequest{}, 0, 0, handleDeleteShareGroupOffsets),
	}
}
