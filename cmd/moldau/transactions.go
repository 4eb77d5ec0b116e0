package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (p process) transactionsCommand() *cobra.Command {
	var c connection
	return family("transactions", "List and describe transactions, find those that hang and end them", &c,
		p.transactionsList(&c), p.transactionsDescribe(&c), p.transactionsProducers(&c), p.transactionsHanging(&c),
		p.transactionsAbort(&c), p.transactionsTerminate(&c))
}

// txnRow is one transactional id as it is listed.
type txnRow struct {
	ID          string `json:"transactional_id"`
	ProducerID  int64  `json:"producer_id"`
	State       string `json:"state"`
	Coordinator int32  `json:"coordinator"`
}

func (p process) transactionsList(c *connection) *cobra.Command {
	var (
		states  []string
		older   time.Duration
		pattern string
		asJSON  bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print the transactional ids and their states",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				req := kmsg.NewPtrListTransactionsRequest()
				req.StateFilters = states
				if older > 0 {
					req.DurationFilterMillis = older.Milliseconds()
				}
				if pattern != "" {
					req.TransactionalIDPattern = &pattern
				}
				var rows []txnRow
				for _, shard := range client.RequestSharded(ctx, req) {
					err := shard.Err
					if err == nil {
						err = kerr.ErrorForCode(shard.Resp.(*kmsg.ListTransactionsResponse).ErrorCode)
					}
					if err != nil {
						return fmt.Errorf("list transactions of broker %d: %w", shard.Meta.NodeID, err)
					}
					for _, t := range shard.Resp.(*kmsg.ListTransactionsResponse).TransactionStates {
						rows = append(rows, txnRow{t.TransactionalID, t.ProducerID, t.TransactionState, shard.Meta.NodeID})
					}
				}
				slices.SortFunc(rows, func(a, b txnRow) int { return strings.Compare(a.ID, b.ID) })
				return tell(p, asJSON, "ID\tPRODUCER\tSTATE\tCOORDINATOR", rows, func(t txnRow) []string {
					return []string{t.ID, fmt.Sprint(t.ProducerID), t.State, fmt.Sprint(t.Coordinator)}
				})
			})
		},
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only these states, such as Ongoing,PrepareCommit")
	cmd.Flags().DurationVar(&older, "older-than", 0, "only transactions that run for longer than this")
	cmd.Flags().StringVar(&pattern, "pattern", "", "only ids that match this regular expression")
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

// txnDetail is one transaction as it is described.
type txnDetail struct {
	txnRow
	Epoch     int16              `json:"producer_epoch"`
	TimeoutMs int32              `json:"timeout_ms"`
	Started   *time.Time         `json:"started"` // null: none runs
	Topics    map[string][]int32 `json:"topics"`
}

func (p process) transactionsDescribe(c *connection) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "describe ID...",
		Short: "Print the state and the partitions of transactions",
		Args:  some("transactional id"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return p.withAdmin(cmd, c, func(ctx context.Context, admin *kadm.Client) error {
				found, err := admin.DescribeTransactions(ctx, ids...)
				if err != nil {
					return fmt.Errorf("describe transactions: %w", err)
				}
				var rows []txnDetail
				for _, id := range ids {
					t := found[id]
					switch {
					case errors.Is(t.Err, kerr.TransactionalIDNotFound):
						return fmt.Errorf("transactional id %s doesn't exist on %s; `moldau transactions list` shows what is there", id, strings.Join(c.brokers, ","))
					case t.Err != nil:
						return fmt.Errorf("describe transaction %s: %w", id, t.Err)
					}
					row := txnDetail{txnRow{id, t.ProducerID, t.State, t.Coordinator}, t.ProducerEpoch, t.TimeoutMillis, nil, map[string][]int32{}}
					if t.StartTimestamp >= 0 {
						at := time.UnixMilli(t.StartTimestamp).UTC()
						row.Started = &at
					}
					for _, topic := range t.Topics.Sorted() {
						row.Topics[topic.Topic] = topic.Partitions
					}
					rows = append(rows, row)
				}
				return tell(p, asJSON, "ID\tPRODUCER\tEPOCH\tSTATE\tTIMEOUT\tSTARTED\tPARTITIONS", rows, func(t txnDetail) []string {
					started := ""
					if t.Started != nil {
						started = t.Started.Format(time.RFC3339)
					}
					return []string{t.ID, fmt.Sprint(t.ProducerID), fmt.Sprint(t.Epoch), t.State,
						(time.Duration(t.TimeoutMs) * time.Millisecond).String(), started, partitionsText(t.Topics)}
				})
			})
		},
	}
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

// producerRow is what a partition knows about a producer.
type producerRow struct {
	Topic            string    `json:"topic"`
	Partition        int32     `json:"partition"`
	ProducerID       int64     `json:"producer_id"`
	Epoch            int16     `json:"producer_epoch"`
	LastSequence     int32     `json:"last_sequence"`
	LastTime         time.Time `json:"last_time"`
	CoordinatorEpoch int32     `json:"coordinator_epoch"`
	OpenSince        *int64    `json:"transaction_start_offset"` // null: no open transaction
}

func (r producerRow) cells() []string {
	open := ""
	if r.OpenSince != nil {
		open = fmt.Sprint(*r.OpenSince)
	}
	return []string{r.Topic, fmt.Sprint(r.Partition), fmt.Sprint(r.ProducerID), fmt.Sprint(r.Epoch), fmt.Sprint(r.LastSequence),
		r.LastTime.Format(time.RFC3339), open}
}

const producerHeader = "TOPIC\tPARTITION\tPRODUCER\tEPOCH\tSEQUENCE\tLAST\tOPEN SINCE"

// producersOf asks the partitions for their producers; no names are all topics.
func producersOf(ctx context.Context, client *kgo.Client, c *connection, names ...string) ([]producerRow, error) {
	topics, err := topicsOf(ctx, client, c, names...)
	if err != nil {
		return nil, err
	}
	set := kadm.TopicsSet{}
	for name, t := range topics {
		set.Add(name, partitionsOf(t)...)
	}
	if len(set) == 0 {
		return nil, nil
	}
	found, err := kadm.NewClient(client).DescribeProducers(ctx, set)
	if err != nil {
		return nil, fmt.Errorf("describe producers: %w", err)
	}
	var rows []producerRow
	for _, part := range found.SortedPartitions() {
		if part.Err != nil {
			return nil, fmt.Errorf("describe producers of topic %s, partition %d: %w%s", part.Topic, part.Partition, part.Err, detail(part.ErrMessage))
		}
		for _, pr := range part.ActiveProducers.Sorted() {
			row := producerRow{pr.Topic, pr.Partition, pr.ProducerID, pr.ProducerEpoch, pr.LastSequence,
				time.UnixMilli(pr.LastTimestamp).UTC(), pr.CoordinatorEpoch, nil}
			if pr.CurrentTxnStartOffset >= 0 {
				row.OpenSince = &pr.CurrentTxnStartOffset
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (p process) transactionsProducers(c *connection) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "producers TOPIC...",
		Short: "Print the idempotent and transactional producers that partitions know",
		Args:  some("topic"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				rows, err := producersOf(ctx, client, c, names...)
				if err != nil {
					return err
				}
				return tell(p, asJSON, producerHeader, rows, producerRow.cells)
			})
		},
	}
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

func (p process) transactionsHanging(c *connection) *cobra.Command {
	var (
		idle   time.Duration
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "hanging [TOPIC...]",
		Short: "Find transactions that partitions hold open and no coordinator will end",
		Long: `Find transactions that partitions hold open and no coordinator will end: readers of committed records and compaction wait for
them. Without TOPIC it looks at all topics. moldau transactions abort ends one.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				rows, err := producersOf(ctx, client, c, names...)
				if err != nil {
					return err
				}
				now := time.Now()
				rows = slices.DeleteFunc(rows, func(r producerRow) bool { return r.OpenSince == nil || now.Sub(r.LastTime) < idle })
				hanging, err := withoutCoordinator(ctx, kadm.NewClient(client), rows)
				if err != nil {
					return err
				}
				return tell(p, asJSON, producerHeader, hanging, producerRow.cells)
			})
		},
	}
	cmd.Flags().DurationVar(&idle, "idle", 15*time.Minute, "only producers that wrote nothing for this long; below the cluster's transaction.max.timeout.ms healthy ones can be among them")
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

// withoutCoordinator keeps the producers whose open transaction is not among those that their coordinator knows.
func withoutCoordinator(ctx context.Context, admin *kadm.Client, rows []producerRow) ([]producerRow, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	var producers []int64
	for _, r := range rows {
		producers = append(producers, r.ProducerID)
	}
	slices.Sort(producers)
	listed, err := admin.ListTransactions(ctx, slices.Compact(producers), nil)
	if err != nil {
		return nil, fmt.Errorf("list transactions: %w", err)
	}
	ids := map[int64]string{}
	for _, t := range listed {
		ids[t.ProducerID] = t.TxnID
	}
	var known kadm.DescribedTransactions
	if len(listed) > 0 {
		if known, err = admin.DescribeTransactions(ctx, listed.TransactionalIDs()...); err != nil {
			return nil, fmt.Errorf("describe transactions: %w", err)
		}
	}
	return slices.DeleteFunc(rows, func(r producerRow) bool {
		id, ok := ids[r.ProducerID]
		return ok && known[id].Err == nil && known[id].ProducerEpoch == r.Epoch && known[id].Topics.Lookup(r.Topic, r.Partition)
	}), nil
}

func (p process) transactionsAbort(c *connection) *cobra.Command {
	var (
		partition int32
		start     int64
	)
	cmd := &cobra.Command{
		Use:   "abort TOPIC --partition N --start-offset OFFSET",
		Short: "End a hanging transaction by an abort marker on its partition",
		Args:  one("topic"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if partition < 0 || start < 0 {
				return usagef("--partition and --start-offset say which transaction; `moldau transactions hanging` shows them")
			}
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				rows, err := producersOf(ctx, client, c, args[0])
				if err != nil {
					return err
				}
				i := slices.IndexFunc(rows, func(r producerRow) bool {
					return r.Partition == partition && r.OpenSince != nil && *r.OpenSince == start
				})
				if i < 0 {
					return fmt.Errorf("topic %s, partition %d: no transaction is open since offset %d; `moldau transactions producers %s` shows what is open", args[0], partition, start, args[0])
				}
				return p.abort(ctx, kadm.NewClient(client), rows[i])
			})
		},
	}
	cmd.Flags().Int32VarP(&partition, "partition", "p", -1, "partition that holds the transaction open")
	cmd.Flags().Int64Var(&start, "start-offset", -1, "offset of its first record")
	return cmd
}

func (p process) abort(ctx context.Context, admin *kadm.Client, r producerRow) error {
	set := kadm.TopicsSet{}
	set.Add(r.Topic, r.Partition)
	results, err := admin.WriteTxnMarkers(ctx, kadm.TxnMarkers{
		// A partition that has seen no marker of this producer knows no coordinator epoch; any is new to it.
		ProducerID: r.ProducerID, ProducerEpoch: r.Epoch, CoordinatorEpoch: max(r.CoordinatorEpoch, 0), Topics: set,
	})
	if err != nil {
		return fmt.Errorf("write the marker: %w", err)
	}
	results.EachPartition(func(got kadm.TxnMarkersPartitionResponse) { err = errors.Join(err, got.Err) })
	if err != nil {
		return fmt.Errorf("abort the transaction of producer %d on topic %s, partition %d: %w", r.ProducerID, r.Topic, r.Partition, err)
	}
	_, err = fmt.Fprintf(p.stdout, "aborted the transaction of producer %d on %s, partition %d\n", r.ProducerID, r.Topic, r.Partition)
	return err
}

func (p process) transactionsTerminate(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "terminate ID",
		Short: "Fence the producers of a transactional id and abort its transaction",
		Args:  one("transactional id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				for {
					req := kmsg.NewPtrInitProducerIDRequest()
					req.TransactionalID, req.TransactionTimeoutMillis = &args[0], 60_000
					resp, err := req.RequestWith(ctx, client)
					if err == nil {
						err = kerr.ErrorForCode(resp.ErrorCode)
					}
					if errors.Is(err, kerr.ConcurrentTransactions) { // its transaction is being aborted
						select {
						case <-time.After(50 * time.Millisecond):
							continue
						case <-ctx.Done():
						}
					}
					if err != nil {
						return fmt.Errorf("terminate %s: %w", args[0], err)
					}
					_, err = fmt.Fprintf(p.stdout, "terminated %s; its next producer has id %d and epoch %d or later\n", args[0], resp.ProducerID, resp.ProducerEpoch)
					return err
				}
			})
		},
	}
}
