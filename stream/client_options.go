package stream

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ownedOptions are the options of kgo that the runtime sets, because exactly-once, restore or assignment
// rest on them. The value is what to use in place of them.
var ownedOptions = map[string]string{
	"SeedBrokers":                        "Config.Brokers",
	"WithLogger":                         "Config.Logger",
	"WithContext":                        "the context of Run",
	"WithPools":                          "",
	"ConsumerGroup":                      "Config.AppID",
	"GroupProtocol":                      "",
	"InstanceID":                         "Config.InstanceID",
	"SessionTimeout":                     "Config.SessionTimeout",
	"RebalanceTimeout":                   "Config.TaskTimeout",
	"HeartbeatInterval":                  "Config.SessionTimeout",
	"Balancers":                          "",
	"ServerSideBalancer":                 "",
	"BalanceRacks":                       "",
	"BlockRebalanceOnPoll":               "",
	"AdjustFetchOffsetsFn":               "",
	"OnPartitionsAssigned":               "Config.OnState",
	"OnPartitionsRevoked":                "Config.OnState",
	"OnPartitionsLost":                   "Config.OnState",
	"OnPartitionsCallbackBlocked":        "",
	"OnOffsetsFetched":                   "",
	"DisableAutoCommit":                  "",
	"GreedyAutoCommit":                   "",
	"AutoCommitInterval":                 "Config.CommitInterval",
	"AutoCommitMarks":                    "",
	"AutoCommitCallback":                 "",
	"ShareGroup":                         "",
	"ShareMaxRecords":                    "",
	"ShareMaxRecordsStrict":              "",
	"ShareAckCallback":                   "",
	"ConsumeTopics":                      "stream.From",
	"ConsumePartitions":                  "stream.From",
	"ConsumeRegex":                       "stream.From",
	"ConsumeExcludeTopics":               "stream.From",
	"ConsumeStartOffset":                 "",
	"ConsumeResetOffset":                 "",
	"KeepControlRecords":                 "",
	"KeepRetryableFetchErrors":           "",
	"FetchIsolationLevel":                "Config.Guarantee",
	"TransactionalID":                    "Config.InstanceID",
	"TransactionTimeout":                 "Config.TransactionTimeout",
	"RequiredAcks":                       "",
	"DisableIdempotentWrite":             "Config.Guarantee",
	"AllowIdempotentProduceCancellation": "",
	"RecordPartitioner":                  "",
	"RackAwarePartitioning":              "",
	"ManualFlushing":                     "",
	"DefaultProduceTopic":                "",
	"DefaultProduceTopicAlways":          "",
	"AllowAutoTopicCreation":             "",
	"RecordRetries":                      "Config.TaskTimeout",
	"RecordDeliveryTimeout":              "Config.TaskTimeout",
	"UnknownTopicRetries":                "",
	"StopProducerOnDataLossDetected":     "",
	"ProducerOnDataLossDetected":         "",
}

// checkClientOptions refuses options that the runtime owns. kgo options are opaque functions, so it builds
// one client with them and one without (clients connect on first use only) and compares what they say.
func checkClientOptions(opts []kgo.Opt) error {
	if len(opts) == 0 {
		return nil
	}
	// The default partitioner is made anew for each client; a known one under the options tells whether they replace it.
	ours := kgo.RecordPartitioner(byKey{})
	plain, err := kgo.NewClient(ours)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	defer plain.Close()
	given, err := kgo.NewClient(append([]kgo.Opt{ours}, opts...)...)
	if err != nil {
		return fmt.Errorf("Config.Client: %w (options about groups, offsets and transactions belong to the runtime)", err)
	}
	defer given.Close()

	var refused []string
	for name, instead := range ownedOptions {
		if reflect.DeepEqual(plain.OptValues(name), given.OptValues(name)) {
			continue
		}
		s := "kgo." + name
		if instead != "" {
			s += " (use " + instead + ")"
		}
		refused = append(refused, s)
	}
	if len(refused) == 0 {
		return nil
	}
	slices.Sort(refused)
	return fmt.Errorf("Config.Client has options that the runtime sets itself: %s", strings.Join(refused, ", "))
}
