package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (p process) groupsCommand() *cobra.Command {
	var c connection
	return family("groups", "List, describe, reset and delete groups of consumers", &c,
		p.groupsList(&c), p.groupsDescribe(&c), p.groupsResetOffsets(&c), p.groupsDeleteOffsets(&c), p.groupsDelete(&c))
}

// groupRow is one group as it is listed.
type groupRow struct {
	Group       string `json:"group"`
	Type        string `json:"type"` // classic, consumer or share
	State       string `json:"state"`
	Protocol    string `json:"protocol_type"`
	Coordinator int32  `json:"coordinator"`
}

// listGroups asks every broker for its groups.
func listGroups(ctx context.Context, client *kgo.Client, states, types []string) ([]groupRow, error) {
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter, req.TypesFilter = states, types
	var rows []groupRow
	for _, shard := range client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, fmt.Errorf("list groups of broker %d: %w", shard.Meta.NodeID, shard.Err)
		}
		resp := shard.Resp.(*kmsg.ListGroupsResponse)
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return nil, fmt.Errorf("list groups of broker %d: %w", shard.Meta.NodeID, err)
		}
		for _, g := range resp.Groups {
			kind := strings.ToLower(g.GroupType)
			if kind == "" {
				kind = "classic" // the broker is older than the others
			}
			rows = append(rows, groupRow{g.Group, kind, g.GroupState, g.ProtocolType, shard.Meta.NodeID})
		}
	}
	slices.SortFunc(rows, func(a, b groupRow) int { return cmp.Compare(a.Group, b.Group) })
	return rows, nil
}

// groupOf finds one group.
func groupOf(ctx context.Context, client *kgo.Client, c *connection, name string) (groupRow, error) {
	all, err := listGroups(ctx, client, nil, nil)
	if err != nil {
		return groupRow{}, err
	}
	i := slices.IndexFunc(all, func(g groupRow) bool { return g.Group == name })
	if i < 0 {
		return groupRow{}, c.noSuchGroup(name)
	}
	return all[i], nil
}

func (c *connection) noSuchGroup(name string) error {
	return fmt.Errorf("group %s doesn't exist on %s; `moldau groups list` shows what is there", name, strings.Join(c.brokers, ","))
}

func (p process) groupsList(c *connection) *cobra.Command {
	var (
		long, asJSON  bool
		states, types []string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print the names of the groups, one a line",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				rows, err := listGroups(ctx, client, states, types)
				if err != nil {
					return err
				}
				if !long {
					return tell(p, asJSON, "", rows, func(g groupRow) []string { return []string{g.Group} })
				}
				return tell(p, asJSON, "GROUP\tTYPE\tSTATE\tPROTOCOL\tCOORDINATOR", rows, func(g groupRow) []string {
					return []string{g.Group, g.Type, g.State, g.Protocol, fmt.Sprint(g.Coordinator)}
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, "print types, states and coordinators too")
	cmd.Flags().StringSliceVar(&states, "state", nil, "only groups in these states, such as Stable,Empty")
	cmd.Flags().StringSliceVar(&types, "type", nil, "only groups of these types: classic, consumer, share")
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

// lagRow is how far a group has come on one partition.
type lagRow struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    *int64 `json:"offset"` // what is read next; null: nothing committed
	End       *int64 `json:"end_offset"`
	Lag       *int64 `json:"lag"`
	Member    string `json:"member,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Host      string `json:"host,omitempty"`
	Metadata  string `json:"metadata,omitempty"`
}

// memberRow is one member of a group.
type memberRow struct {
	Group      string             `json:"group"`
	Member     string             `json:"member"`
	Instance   string             `json:"instance,omitempty"`
	ClientID   string             `json:"client_id"`
	Host       string             `json:"host"`
	Epoch      *int32             `json:"epoch,omitempty"` // null for classic groups
	Assignment map[string][]int32 `json:"assignment"`
}

func (p process) groupsDescribe(c *connection) *cobra.Command {
	var members, asJSON bool
	cmd := &cobra.Command{
		Use:   "describe GROUP...",
		Short: "Print committed offsets and lag, or members, of groups",
		Args:  some("group"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				for i, name := range names {
					g, err := groupOf(ctx, client, c, name)
					if err != nil {
						return err
					}
					if !asJSON {
						if i > 0 {
							fmt.Fprintln(p.stdout)
						}
						fmt.Fprintf(p.stdout, "group %s  type %s  state %s  coordinator %d\n", g.Group, g.Type, g.State, g.Coordinator)
					}
					if err := p.describeGroup(ctx, client, g, members, asJSON); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVarP(&members, "members", "m", false, "print the members and what they were assigned")
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

func (p process) describeGroup(ctx context.Context, client *kgo.Client, g groupRow, members, asJSON bool) error {
	all, err := membersOf(ctx, kadm.NewClient(client), g)
	if err != nil {
		return err
	}
	if members {
		return tell(p, asJSON, "  MEMBER\tINSTANCE\tCLIENT\tHOST\tPARTITIONS", all, func(m memberRow) []string {
			return []string{"  " + m.Member, m.Instance, m.ClientID, m.Host, partitionsText(m.Assignment)}
		})
	}
	rows, err := lagOf(ctx, kadm.NewClient(client), g, all)
	if err != nil {
		return err
	}
	return tell(p, asJSON, "  TOPIC\tPARTITION\tOFFSET\tEND\tLAG\tCLIENT\tHOST", rows, func(r lagRow) []string {
		return []string{"  " + r.Topic, fmt.Sprint(r.Partition), number64(r.Offset), number64(r.End), number64(r.Lag), r.ClientID, r.Host}
	})
}

// membersOf asks for the members of a group, each kind by its own request.
func membersOf(ctx context.Context, admin *kadm.Client, g groupRow) ([]memberRow, error) {
	var out []memberRow
	add := func(id string, instance *string, client, host string, epoch *int32, assigned kadm.TopicsSet) {
		m := memberRow{Group: g.Group, Member: id, ClientID: client, Host: strings.TrimPrefix(host, "/"), Epoch: epoch, Assignment: map[string][]int32{}}
		if instance != nil {
			m.Instance = *instance
		}
		for topic, ps := range assigned {
			for n := range ps {
				m.Assignment[topic] = append(m.Assignment[topic], n)
			}
			slices.Sort(m.Assignment[topic])
		}
		out = append(out, m)
	}
	var err error
	switch g.Type {
	case "consumer":
		var found kadm.DescribedConsumerGroups
		if found, err = admin.DescribeConsumerGroups(ctx, g.Group); err == nil {
			err = found[g.Group].Err
			for _, m := range found[g.Group].Members {
				add(m.MemberID, m.InstanceID, m.ClientID, m.ClientHost, &m.MemberEpoch, m.Assignment)
			}
		}
	case "share":
		var found kadm.DescribedShareGroups
		if found, err = admin.DescribeShareGroups(ctx, g.Group); err == nil {
			err = found[g.Group].Err
			for _, m := range found[g.Group].Members {
				add(m.MemberID, nil, m.ClientID, m.ClientHost, &m.MemberEpoch, m.Assignment)
			}
		}
	default:
		var found kadm.DescribedGroups
		if found, err = admin.DescribeGroups(ctx, g.Group); err == nil {
			err = found[g.Group].Err
			for _, m := range found[g.Group].Members {
				assigned := kadm.TopicsSet{}
				if a, ok := m.Assigned.AsConsumer(); ok {
					for _, t := range a.Topics {
						assigned.Add(t.Topic, t.Partitions...)
					}
				}
				add(m.MemberID, m.InstanceID, m.ClientID, m.ClientHost, nil, assigned)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("describe group %s: %w", g.Group, err)
	}
	slices.SortFunc(out, func(a, b memberRow) int { return cmp.Compare(a.Member, b.Member) })
	return out, nil
}

// committed gives the offsets of a group by partition, what it was assigned but never committed included (as -1).
func committed(ctx context.Context, admin *kadm.Client, g groupRow) (kadm.Offsets, error) {
	offsets := kadm.Offsets{}
	if g.Type == "share" {
		found, err := admin.DescribeShareGroupOffsets(ctx, g.Group)
		if err != nil {
			return nil, fmt.Errorf("offsets of share group %s: %w", g.Group, err)
		}
		for _, described := range found {
			if described.Err != nil {
				return nil, fmt.Errorf("offsets of share group %s: %w", g.Group, described.Err)
			}
			for topic, ps := range described.Offsets {
				for n, o := range ps {
					if o.Err == nil {
						offsets.AddOffset(topic, n, o.StartOffset, -1)
					}
				}
			}
		}
		return offsets, nil
	}
	found, err := admin.FetchOffsets(ctx, g.Group)
	if err == nil {
		err = found.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("offsets of group %s: %w", g.Group, err)
	}
	found.Each(func(o kadm.OffsetResponse) { offsets.Add(o.Offset) })
	return offsets, nil
}

func lagOf(ctx context.Context, admin *kadm.Client, g groupRow, members []memberRow) ([]lagRow, error) {
	offsets, err := committed(ctx, admin, g)
	if err != nil {
		return nil, err
	}
	type place struct {
		topic     string
		partition int32
	}
	owners := map[place]memberRow{}
	for _, m := range members {
		for topic, ps := range m.Assignment {
			for _, n := range ps {
				owners[place{topic, n}] = m
				if _, ok := offsets.Lookup(topic, n); !ok {
					offsets.AddOffset(topic, n, -1, -1)
				}
			}
		}
	}
	var topics []string
	for topic := range offsets {
		topics = append(topics, topic)
	}
	if len(topics) == 0 {
		return nil, nil
	}
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("group %s: list end offsets: %w", g.Group, err)
	}
	var rows []lagRow
	for _, o := range offsets.Sorted() {
		r := lagRow{Group: g.Group, Topic: o.Topic, Partition: o.Partition, End: offsetOf(ends, o.Topic, o.Partition), Metadata: o.Metadata}
		if o.At >= 0 {
			r.Offset = &o.At
			if r.End != nil {
				lag := max(*r.End-o.At, 0)
				r.Lag = &lag
			}
		}
		if m, ok := owners[place{o.Topic, o.Partition}]; ok && g.Type != "share" { // a share group's partition has many owners
			r.Member, r.ClientID, r.Host = m.Member, m.ClientID, m.Host
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (p process) groupsDelete(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "delete GROUP...",
		Short: "Delete groups without members, with their offsets",
		Args:  some("group"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return p.withAdmin(cmd, c, func(ctx context.Context, admin *kadm.Client) error {
				results, err := admin.DeleteGroups(ctx, names...)
				if err != nil {
					return fmt.Errorf("delete groups: %w", err)
				}
				var errs []error
				for _, name := range names {
					r, ok := results[name]
					switch {
					case !ok || errors.Is(r.Err, kerr.GroupIDNotFound):
						errs = append(errs, c.noSuchGroup(name))
					case errors.Is(r.Err, kerr.NonEmptyGroup):
						errs = append(errs, fmt.Errorf("delete group %s: it has members; stop them first, `moldau groups describe -m %s` shows them", name, name))
					case r.Err != nil:
						errs = append(errs, fmt.Errorf("delete group %s: %w%s", name, r.Err, detail(r.ErrMessage)))
					default:
						fmt.Fprintf(p.stdout, "deleted %s\n", name)
					}
				}
				return errors.Join(errs...)
			})
		},
	}
}
