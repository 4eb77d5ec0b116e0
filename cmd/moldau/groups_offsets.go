package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// target is where reset-offsets moves a partition.
type target struct {
	beginning, end bool
	time           time.Time // if not zero: the first record at or after it
	shift          *int64    // relative to what is committed
	absolute       int64
}

// parseTarget reads beginning, end, an offset, +N or -N, @MS or a time of RFC 3339.
func parseTarget(text string) (target, error) {
	switch text {
	case "beginning", "earliest", "start":
		return target{beginning: true}, nil
	case "end", "latest":
		return target{end: true}, nil
	}
	if ms, ok := strings.CutPrefix(text, "@"); ok {
		n, err := strconv.ParseInt(ms, 10, 64)
		if err != nil || n < 0 {
			return target{}, fmt.Errorf("%q is not @ and milliseconds since 1970", text)
		}
		return target{time: time.UnixMilli(n)}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return target{time: at}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return target{}, fmt.Errorf("%q is not beginning, end, an offset, +N, -N, @MS or a time such as 2026-11-21T08:00:00Z", text)
	}
	if text[0] == '+' || text[0] == '-' {
		return target{shift: &n}, nil
	}
	return target{absolute: n}, nil
}

// resetRow is one partition of a reset.
type resetRow struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      *int64 `json:"from"` // null: nothing was committed
	To        int64  `json:"to"`
}

func (p process) groupsResetOffsets(c *connection) *cobra.Command {
	var (
		topics          []string
		all             bool
		to              string
		execute, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "reset-offsets GROUP",
		Short: "Move the committed offsets of a group without members",
		Long: `Move the committed offsets of a group without members. It prints what would move, and moves it only with --execute.

  moldau groups reset-offsets billing --topic orders --to beginning --execute
  moldau groups reset-offsets billing --topic orders:0,2 --to 2026-11-21T08:00:00Z
  moldau groups reset-offsets billing --all-topics --to -100`,
		Args: one("group"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseTarget(to)
			if err != nil {
				return usagef("--to: %w", err)
			}
			if all == (len(topics) > 0) {
				return usagef("give --topic (repeatable) or --all-topics: all that the group has offsets of")
			}
			wanted, err := parseTopicPartitions(topics)
			if err != nil {
				return err
			}
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				return p.resetOffsets(ctx, client, c, args[0], wanted, t, execute, asJSON)
			})
		},
	}
	cmd.Flags().StringArrayVarP(&topics, "topic", "t", nil, "TOPIC or TOPIC:PARTITION,PARTITION; repeatable")
	cmd.Flags().BoolVar(&all, "all-topics", false, "every topic that the group has offsets of")
	cmd.Flags().StringVar(&to, "to", "", "beginning, end, an offset, +N or -N from the present one, @MS or a time of RFC 3339")
	cmd.Flags().BoolVar(&execute, "execute", false, "do it; without, only print")
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

// parseTopicPartitions reads TOPIC and TOPIC:0,1; a topic without partitions has all (nil).
func parseTopicPartitions(texts []string) (map[string][]int32, error) {
	out := map[string][]int32{}
	for _, text := range texts {
		topic, list, some := strings.Cut(text, ":")
		if topic == "" {
			return nil, usagef("--topic %q is not TOPIC or TOPIC:PARTITION,PARTITION", text)
		}
		out[topic] = nil
		if !some {
			continue
		}
		for n := range strings.SplitSeq(list, ",") {
			i, err := strconv.ParseInt(n, 10, 32)
			if err != nil || i < 0 {
				return nil, usagef("--topic %q: %q is not the number of a partition", text, n)
			}
			out[topic] = append(out[topic], int32(i))
		}
	}
	return out, nil
}

func (p process) resetOffsets(ctx context.Context, client *kgo.Client, c *connection, name string, wanted map[string][]int32, t target, execute, asJSON bool) error {
	admin := kadm.NewClient(client)
	g, err := groupOf(ctx, client, c, name)
	switch {
	case err != nil && len(wanted) > 0 && strings.Contains(err.Error(), "doesn't exist"):
		g = groupRow{Group: name, Type: "classic", State: "Empty"} // a group may get its offsets before its first member
	case err != nil:
		return err
	case g.State != "Empty" && g.State != "Dead":
		return fmt.Errorf("group %s is %s: its members would commit over the reset; stop them first, `moldau groups describe -m %s` shows them", name, g.State, name)
	}
	now, err := committed(ctx, admin, g)
	if err != nil {
		return err
	}
	if len(wanted) == 0 {
		for topic, ps := range now {
			for n := range ps {
				wanted[topic] = append(wanted[topic], n)
			}
		}
		if len(wanted) == 0 {
			return fmt.Errorf("group %s has no offsets; name topics with --topic", name)
		}
	}
	rows, err := planReset(ctx, client, c, name, wanted, now, t)
	if err != nil {
		return err
	}
	if execute {
		if err := commitReset(ctx, admin, g, rows); err != nil {
			return err
		}
	}
	err = tell(p, asJSON, "TOPIC\tPARTITION\tFROM\tTO", rows, func(r resetRow) []string {
		return []string{r.Topic, fmt.Sprint(r.Partition), number64(r.From), fmt.Sprint(r.To)}
	})
	if err == nil && !execute {
		fmt.Fprintln(p.stderr, "nothing was changed; --execute does it")
	}
	return err
}

// planReset computes where each partition goes, within what its log has.
func planReset(ctx context.Context, client *kgo.Client, c *connection, group string, wanted map[string][]int32, now kadm.Offsets, t target) ([]resetRow, error) {
	var names []string
	for topic := range wanted {
		names = append(names, topic)
	}
	slices.Sort(names)
	details, err := topicsOf(ctx, client, c, names...)
	if err != nil {
		return nil, err
	}
	admin := kadm.NewClient(client)
	starts, err1 := admin.ListStartOffsets(ctx, names...)
	ends, err2 := admin.ListEndOffsets(ctx, names...)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	at := ends
	if !t.time.IsZero() {
		if at, err = admin.ListOffsetsAfterMilli(ctx, t.time.UnixMilli(), names...); err != nil {
			return nil, fmt.Errorf("list offsets at %s: %w", t.time.Format(time.RFC3339), err)
		}
	}
	var rows []resetRow
	for _, topic := range names {
		has := partitionsOf(details[topic])
		ps := wanted[topic]
		if len(ps) == 0 {
			ps = has
		}
		slices.Sort(ps)
		for _, n := range ps {
			if !slices.Contains(has, n) {
				return nil, fmt.Errorf("topic %s has no partition %d: it has %d, from 0", topic, n, len(has))
			}
			start, end, then := offsetOf(starts, topic, n), offsetOf(ends, topic, n), offsetOf(at, topic, n)
			if start == nil || end == nil || then == nil {
				return nil, fmt.Errorf("topic %s, partition %d: the cluster does not tell its offsets; is its leader there?", topic, n)
			}
			row := resetRow{Group: group, Topic: topic, Partition: n}
			if o, ok := now.Lookup(topic, n); ok && o.At >= 0 {
				row.From = &o.At
			}
			switch {
			case t.beginning:
				row.To = *start
			case t.end:
				row.To = *end
			case !t.time.IsZero():
				row.To = *then
			case t.shift != nil && row.From == nil:
				return nil, fmt.Errorf("topic %s, partition %d: group %s has no offset there to move from; give an absolute one", topic, n, group)
			case t.shift != nil:
				row.To = *row.From + *t.shift
			default:
				row.To = t.absolute
			}
			row.To = min(max(row.To, *start), *end)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func commitReset(ctx context.Context, admin *kadm.Client, g groupRow, rows []resetRow) error {
	offsets := kadm.Offsets{}
	for _, r := range rows {
		offsets.AddOffset(r.Topic, r.Partition, r.To, -1)
	}
	var err error
	if g.Type == "share" {
		var results kadm.AlterShareGroupOffsetsResponses
		if results, err = admin.AlterShareGroupOffsets(ctx, g.Group, offsets); err == nil {
			err = results.Error()
		}
	} else {
		err = admin.CommitAllOffsets(ctx, g.Group, offsets)
	}
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.NonEmptyGroup) {
		return fmt.Errorf("group %s got members meanwhile; stop them first: %w", g.Group, err)
	}
	if err != nil {
		return fmt.Errorf("reset offsets of group %s: %w", g.Group, err)
	}
	return nil
}

func (p process) groupsDeleteOffsets(c *connection) *cobra.Command {
	var topics []string
	cmd := &cobra.Command{
		Use:   "delete-offsets GROUP -t TOPIC",
		Short: "Forget the offsets of topics that no member of the group reads",
		Args:  one("group"),
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted, err := parseTopicPartitions(topics)
			if err != nil {
				return err
			}
			if len(wanted) == 0 {
				return usagef("--topic is missing")
			}
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				return p.deleteOffsets(ctx, client, c, args[0], wanted)
			})
		},
	}
	cmd.Flags().StringArrayVarP(&topics, "topic", "t", nil, "TOPIC or TOPIC:PARTITION,PARTITION; repeatable")
	return cmd
}

func (p process) deleteOffsets(ctx context.Context, client *kgo.Client, c *connection, name string, wanted map[string][]int32) error {
	g, err := groupOf(ctx, client, c, name)
	if err != nil {
		return err
	}
	admin := kadm.NewClient(client)
	now, err := committed(ctx, admin, g)
	if err != nil {
		return err
	}
	set := kadm.TopicsSet{}
	for topic, ps := range wanted {
		for n := range now[topic] {
			if len(ps) == 0 || slices.Contains(ps, n) {
				set.Add(topic, n)
			}
		}
		if len(set[topic]) == 0 {
			return fmt.Errorf("group %s has no offsets of topic %s there", name, topic)
		}
	}
	if g.Type == "share" {
		results, err := admin.DeleteShareGroupOffsets(ctx, name, set.Topics()...)
		if err == nil {
			err = results.Error()
		}
		if err != nil {
			return fmt.Errorf("delete offsets of share group %s: %w", name, err)
		}
	} else {
		results, err := admin.DeleteOffsets(ctx, name, set)
		if err == nil {
			err = results.Error()
		}
		if errors.Is(err, kerr.GroupSubscribedToTopic) {
			return fmt.Errorf("delete offsets of group %s: members read the topic; stop them first: %w", name, err)
		}
		if err != nil {
			return fmt.Errorf("delete offsets of group %s: %w", name, err)
		}
	}
	for _, topic := range set.Sorted() {
		fmt.Fprintf(p.stdout, "deleted the offsets of %s %v\n", topic.Topic, topic.Partitions)
	}
	return nil
}
