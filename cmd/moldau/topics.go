package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (p process) topicsCommand() *cobra.Command {
	var c connection
	return family("topics", "List, create, describe, alter and delete topics", &c,
		p.topicsList(&c), p.topicsCreate(&c), p.topicsDescribe(&c), p.topicsConfigs(&c), p.topicsAlter(&c), p.topicsDelete(&c))
}

func (p process) topicsList(c *connection) *cobra.Command {
	var internal, long, asJSON bool
	type row struct {
		Topic      string `json:"topic"`
		Partitions int    `json:"partitions"`
		Replicas   int    `json:"replicas"`
		ID         string `json:"id"`
		Internal   bool   `json:"internal"`
	}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print the names of the topics, one a line",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withAdmin(cmd, c, func(ctx context.Context, admin *kadm.Client) error {
				topics, err := admin.ListTopicsWithInternal(ctx)
				if err != nil {
					return fmt.Errorf("list topics: %w", err)
				}
				if !internal {
					topics.FilterInternal()
				}
				var rows []row
				for _, t := range topics.Sorted() {
					rows = append(rows, row{t.Topic, len(t.Partitions), t.Partitions.NumReplicas(), topicID(t.ID), t.IsInternal})
				}
				if !long {
					return tell(p, asJSON, "", rows, func(r row) []string { return []string{r.Topic} })
				}
				return tell(p, asJSON, "TOPIC\tPARTITIONS\tREPLICAS\tID", rows, func(r row) []string {
					return []string{r.Topic, fmt.Sprint(r.Partitions), fmt.Sprint(r.Replicas), r.ID}
				})
			})
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "list the cluster's internal topics too")
	cmd.Flags().BoolVarP(&long, "long", "l", false, "print partitions, replicas and ids too")
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

func (p process) topicsCreate(c *connection) *cobra.Command {
	var (
		partitions  int32
		replicas    int16
		configs     []string
		ifNotExists bool
	)
	cmd := &cobra.Command{
		Use:   "create TOPIC...",
		Short: "Create topics",
		Args:  some("topic"),
		RunE: func(cmd *cobra.Command, names []string) error {
			set, err := parseConfigs(configs)
			if err != nil {
				return err
			}
			if partitions != -1 && partitions < 1 {
				return usagef("--partitions %d must be at least 1", partitions)
			}
			return p.withAdmin(cmd, c, func(ctx context.Context, admin *kadm.Client) error {
				results, err := admin.CreateTopics(ctx, partitions, replicas, set, names...)
				if err != nil {
					return fmt.Errorf("create topics: %w", err)
				}
				var errs []error
				for _, name := range names {
					r := results[name]
					switch {
					case errors.Is(r.Err, kerr.TopicAlreadyExists) && ifNotExists:
					case errors.Is(r.Err, kerr.TopicAlreadyExists):
						errs = append(errs, fmt.Errorf("topic %s exists already; --if-not-exists accepts that", name))
					case errors.Is(r.Err, kerr.InvalidTopicException):
						errs = append(errs, fmt.Errorf("create topic %q: %s", name, legalTopic))
					case r.Err != nil:
						errs = append(errs, fmt.Errorf("create topic %s: %w%s", name, r.Err, detail(r.ErrMessage)))
					default:
						fmt.Fprintf(p.stdout, "created %s with %d partitions\n", name, r.NumPartitions)
					}
				}
				return errors.Join(errs...)
			})
		},
	}
	cmd.Flags().Int32VarP(&partitions, "partitions", "p", -1, "number of partitions; -1: the cluster's default")
	cmd.Flags().Int16VarP(&replicas, "replication-factor", "r", -1, "copies of each partition; -1: the cluster's default")
	cmd.Flags().StringArrayVar(&configs, "config", nil, "NAME=VALUE of a topic configuration, such as retention.ms=86400000; repeatable")
	cmd.Flags().BoolVar(&ifNotExists, "if-not-exists", false, "succeed when the topic exists")
	return cmd
}

func (p process) topicsDescribe(c *connection) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "describe TOPIC...",
		Short: "Print the partitions, offsets and configuration of topics",
		Args:  some("topic"),
		RunE: func(cmd *cobra.Command, names []string) error {
			client, err := p.connect(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer client.Close()
			topics, err := topicsOf(cmd.Context(), client, c, names...)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
			defer cancel()
			return p.describe(ctx, client, topics, names, asJSON)
		},
	}
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

// partitionRow is one partition as `topics describe --json` prints it.
type partitionRow struct {
	Topic       string  `json:"topic"`
	TopicID     string  `json:"topic_id"`
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Start       *int64  `json:"start_offset"` // null if the broker cannot say
	End         *int64  `json:"end_offset"`
}

func (p process) describe(ctx context.Context, client *kgo.Client, topics kadm.TopicDetails, names []string, asJSON bool) error {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, names...)
	if err != nil {
		return fmt.Errorf("list start offsets: %w", err)
	}
	ends, err := admin.ListEndOffsets(ctx, names...)
	if err != nil {
		return fmt.Errorf("list end offsets: %w", err)
	}
	if asJSON {
		var rows []partitionRow
		for _, name := range names {
			t := topics[name]
			for _, part := range t.Partitions.Sorted() {
				rows = append(rows, partitionRow{name, topicID(t.ID), part.Partition, part.Leader, part.LeaderEpoch, part.Replicas, part.ISR,
					offsetOf(starts, name, part.Partition), offsetOf(ends, name, part.Partition)})
			}
		}
		return tell(p, true, "", rows, nil)
	}
	configs, err := admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return fmt.Errorf("describe configurations: %w", err)
	}
	for i, name := range names {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		t := topics[name]
		fmt.Fprintf(p.stdout, "topic %s  id %s  partitions %d\n", name, topicID(t.ID), len(t.Partitions))
		if rc, err := configs.On(name, nil); err == nil && rc.Err == nil {
			p.describeConfigs(rc.Configs)
		}
		w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "  PARTITION\tLEADER\tEPOCH\tREPLICAS\tIN SYNC\tSTART\tEND\t")
		for _, part := range t.Partitions.Sorted() {
			fmt.Fprintf(w, "  %d\t%d\t%d\t%s\t%s\t%s\t%s\t\n", part.Partition, part.Leader, part.LeaderEpoch,
				ids(part.Replicas), ids(part.ISR), offsetText(starts, name, part.Partition), offsetText(ends, name, part.Partition))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// describeConfigs prints what was set for the topic itself; defaults would hide it.
func (p process) describeConfigs(configs []kadm.Config) {
	slices.SortFunc(configs, func(a, b kadm.Config) int { return cmp.Compare(a.Key, b.Key) })
	for _, k := range configs {
		if k.Source == kmsg.ConfigSourceDynamicTopicConfig {
			fmt.Fprintf(p.stdout, "  %s = %s\n", k.Key, k.MaybeValue())
		}
	}
}

func (p process) topicsDelete(c *connection) *cobra.Command {
	var ifExists bool
	cmd := &cobra.Command{
		Use:   "delete TOPIC...",
		Short: "Delete topics and their records",
		Args:  some("topic"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return p.withAdmin(cmd, c, func(ctx context.Context, admin *kadm.Client) error {
				results, err := admin.DeleteTopics(ctx, names...)
				if err != nil {
					return fmt.Errorf("delete topics: %w", err)
				}
				var errs []error
				for _, name := range names {
					r := results[name]
					switch {
					case errors.Is(r.Err, kerr.UnknownTopicOrPartition) && ifExists:
					case errors.Is(r.Err, kerr.UnknownTopicOrPartition):
						errs = append(errs, c.noSuchTopic(name))
					case r.Err != nil:
						errs = append(errs, fmt.Errorf("delete topic %s: %w%s", name, r.Err, detail(r.ErrMessage)))
					default:
						fmt.Fprintf(p.stdout, "deleted %s\n", name)
					}
				}
				return errors.Join(errs...)
			})
		},
	}
	cmd.Flags().BoolVar(&ifExists, "if-exists", false, "succeed when the topic doesn't exist")
	return cmd
}

// topicsConfigs is `configs describe` for topics, whose names need no "topic/" here.
func (p process) topicsConfigs(c *connection) *cobra.Command {
	var all, asJSON, docs bool
	cmd := &cobra.Command{
		Use:   "configs TOPIC...",
		Short: "Print what was set for topics; with --all, the defaults too",
		Args:  some("topic"),
		RunE: func(cmd *cobra.Command, names []string) error {
			var resources []string
			for _, name := range names {
				resources = append(resources, "topic/"+name)
			}
			return p.describeResources(cmd, c, resources, all, docs, asJSON)
		},
	}
	describeFlags(cmd, &all, &docs, &asJSON)
	return cmd
}

func (p process) topicsAlter(c *connection) *cobra.Command {
	var (
		partitions int
		set, unset []string
		dry        bool
	)
	cmd := &cobra.Command{
		Use:   "alter TOPIC...",
		Short: "Add partitions to topics, or change their configurations",
		Args:  some("topic"),
		RunE: func(cmd *cobra.Command, names []string) error {
			changes, err := assignments(set, kmsg.IncrementalAlterConfigOpSet)
			if err != nil {
				return err
			}
			changes = append(changes, removals(unset)...)
			switch {
			case len(changes) == 0 && !cmd.Flags().Changed("partitions"):
				return usagef("say what to change: --partitions, --config or --unset")
			case cmd.Flags().Changed("partitions") && partitions < 1:
				return usagef("--partitions %d must be at least 1", partitions)
			}
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				topics, err := topicsOf(ctx, client, c, names...)
				if err != nil {
					return err
				}
				var errs []error
				for _, name := range names {
					err := alterTopic(ctx, client, name, len(topics[name].Partitions), partitions, changes, dry)
					if err == nil {
						done := "changed"
						if dry {
							done = "would change"
						}
						_, err = fmt.Fprintf(p.stdout, "%s %s\n", done, name)
					}
					errs = append(errs, err)
				}
				return errors.Join(errs...)
			})
		},
	}
	cmd.Flags().IntVarP(&partitions, "partitions", "p", 0, "number of partitions to have; it can only grow, and keys then go to other partitions than before")
	cmd.Flags().StringArrayVar(&set, "config", nil, "NAME=VALUE of a configuration to set; repeatable")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "NAME of a configuration to give its default back; repeatable")
	dryRunFlag(cmd, &dry)
	return cmd
}

// alterTopic changes one topic that has some partitions now.
func alterTopic(ctx context.Context, client *kgo.Client, name string, now, partitions int, changes []kmsg.IncrementalAlterConfigsRequestResourceConfig, dry bool) error {
	if partitions > 0 && partitions != now {
		update := kadm.NewClient(client).UpdatePartitions
		if dry {
			update = kadm.NewClient(client).ValidateUpdatePartitions
		}
		results, err := update(ctx, partitions, name)
		if err != nil {
			return fmt.Errorf("add partitions to topic %s: %w", name, err)
		}
		if r := results[name]; r.Err != nil {
			return fmt.Errorf("add partitions to topic %s: %w%s", name, r.Err, detail(r.ErrMessage))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return alterResource(ctx, client, resource{kmsg.ConfigResourceTypeTopic, name, "topic/" + name}, changes, dry)
}

// withAdmin connects, and bounds everything that f asks of the cluster by the timeout.
func (p process) withAdmin(cmd *cobra.Command, c *connection, f func(context.Context, *kadm.Client) error) error {
	return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error { return f(ctx, kadm.NewClient(client)) })
}

// withClient is withAdmin for what the admin client does not know.
func (p process) withClient(cmd *cobra.Command, c *connection, f func(context.Context, *kgo.Client) error) error {
	client, err := p.connect(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	return f(ctx, client)
}

func parseConfigs(pairs []string) (map[string]*string, error) {
	set := make(map[string]*string, len(pairs))
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, usagef("--config %q is not NAME=VALUE", pair)
		}
		set[name] = &value
	}
	return set, nil
}

// detail is what the cluster says beside an error code.
func detail(message string) string {
	if message == "" {
		return ""
	}
	return " (" + message + ")"
}

// topicID writes an id as Kafka's tools do.
func topicID(id kadm.TopicID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func ids(nodes []int32) string {
	texts := make([]string, len(nodes))
	for i, n := range nodes {
		texts[i] = fmt.Sprint(n)
	}
	return strings.Join(texts, ",")
}

// offsetOf is nil if the broker could not say.
func offsetOf(offsets kadm.ListedOffsets, topic string, partition int32) *int64 {
	o, ok := offsets.Lookup(topic, partition)
	if !ok || o.Err != nil {
		return nil
	}
	return &o.Offset
}

func offsetText(offsets kadm.ListedOffsets, topic string, partition int32) string {
	return number64(offsetOf(offsets, topic, partition))
}

// number64 shows a number that may be unknown.
func number64(n *int64) string {
	if n == nil {
		return "?"
	}
	return fmt.Sprint(*n)
}
