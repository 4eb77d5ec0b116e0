package server

import "github.com/twmb/franz-go/pkg/kmsg"

// configAPIs are the APIs of configurations of topics, brokers, groups and client metrics, of features and of the quorum, one file
// each.
func configAPIs() []api {
	return []api{
		serve(&kmsg.DescribeConfigsRequest{}, 1, 4, handleDescribeConfigs),
		serve(&kmsg.AlterConfigsRequest{}, 0, 2, handleAlterConfigs),
		serve(&kmsg.IncrementalAlterConfigsRequest{}, 0, 1, handleIncrementalAlterConfigs),
		serve(&kmsg.ListConfigResourcesRequest{}, 0, 1, handleListConfigResources),
		serve(&kmsg.DescribeTopicPartitionsRequest{}, 0, 0, handleDescribeTopicPartitions),
		serve(&kmsg.DescribeQuorumRequest{}, 0, 2, handleDescribeQuorum),
		serve(&kmsg.UpdateFeaturesRequest{}, 0, 2, handleUpdateFeatures),
	}
}
