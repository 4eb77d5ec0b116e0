package server

import "github.com/twmb/franz-go/pkg/kmsg"

// adminAPIs are the APIs of the rest of administration: elections, reassignments, log directories, quotas, quorum and features, one file each.
func adminAPIs() []api {
	return []api{
		serve(&kmsg.DescribeACLsRequest{}, 1, 3, handleDescribeACLs),
		serve(&kmsg.CreateACLsRequest{}, 1, 3, handleCreateACLs),
		serve(&kmsg.DeleteACLsRequest{}, 1, 3, handleDeleteACLs),
		serve(&kmsg.DescribeLogDirsRequest{}, 1, 5, handleDescribeLogDirs),
		serve(&kmsg.ElectLeadersRequest{}, 0, 2, handleElectLeaders),
		serve(&kmsg.AlterPartitionAssignmentsRequest{}, 0, 1, handleAlterPartitionReassignments),
		serve(&kmsg.ListPartitionReassignmentsRequest{}, 0, 0, handleListPartitionReassignments),
		serve(&kmsg.DescribeClientQuotasRequest{}, 0, 1, handleDescribeClientQuotas),
		serve(&kmsg.AlterClientQuotasRequest{}, 0, 1, handleAlterClientQuotas),
	}
}
