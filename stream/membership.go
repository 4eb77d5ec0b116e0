package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/internal/task"
)

// membership is who we are in the group. Offset commits carry it: a commit of an assignment that is no longer
// valid is refused by the coordinator, so that two owners of a task can never both move its offsets. It is
// taken when tasks are assigned, and goes with them, never from the client's current state.
type membership struct {
	memberID   string
	generation int32
	instanceID *string
}

// groupClient is the membership of this process in the application's consumer group. Its client joins, heartbeats
// and balances; it fetches nothing (its topics are paused), see fetcher.
type groupClient struct {
	app        *App
	cl         *kgo.Client
	subscribed []string // what cl subscribes to, so that it joins; what the group divides is in the balancer
	instanceID *string
	balancer   *balancer
	cancel     context.CancelFunc // ends requests of cl
	asked      bool               // for a rebalance, because the assignment was made for another program
}

// join becomes a member, when there is a topic to read. Assignments arrive by callbacks until leave.
func (a *App) join() (*groupClient, error) {
	g := &groupClient{app: a, instanceID: &a.instance}
	look := func() *layout {
		ctx, cancel := context.WithTimeout(a.running, a.cfg.SessionTimeout/2)
		defer cancel()
		l, _ := a.look(ctx)
		return l
	}
	g.balancer = &balancer{look: look, processID: a.dir.ProcessID(), workers: a.cfg.Workers, owned: a.ownedTasks}
	var ctx context.Context
	ctx, g.cancel = context.WithCancel(context.Background())
	opts := []kgo.Opt{
		kgo.ConsumerGroup(a.cfg.AppID),
		kgo.InstanceID(a.instance),
		kgo.WithContext(ctx),
		kgo.Balancers(g.balancer),
		kgo.SessionTimeout(a.cfg.SessionTimeout),
		// A member that notices a rebalance late holds up all others: heartbeats are cheap.
		kgo.HeartbeatInterval(min(3*time.Second, a.cfg.SessionTimeout/10)),
		kgo.RebalanceTimeout(max(a.cfg.SessionTimeout, time.Minute)),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(g.assigned),
		kgo.OnPartitionsRevoked(g.revoked),
		kgo.OnPartitionsLost(g.lost),
	}
	cl, err := kgo.NewClient(a.cfg.clientOptions("group", a.health, opts...)...)
	if err != nil {
		g.cancel()
		return nil, fmt.Errorf("join group %s: %w", a.cfg.AppID, err)
	}
	g.cl = cl
	l := a.layout.Load()
	if len(l.all()) == 0 {
		a.log.Info("no topic matches the patterns of the sources yet")
		a.assign(membership{}, l, nil)
	}
	g.follow(l)
	return g, nil
}

// follow has the client subscribe to a topic that is there. It joins only then, and complains of topics that are gone. One that
// it subscribes to anew is a rebalance of its own: it gets the topics of sources that name them, else one that a pattern matches.
func (g *groupClient) follow(l *layout) {
	want := l.named()
	if all := l.all(); len(want) == 0 {
		for _, t := range g.subscribed {
			if slices.Contains(all, t) {
				return
			}
		}
		want = all[:min(len(all), 1)]
	} else if g.subscribed != nil {
		return
	}
	if len(g.subscribed) > 0 {
		g.cl.PurgeTopicsFromConsuming(slices.Clone(g.subscribed)...)
	}
	g.subscribed = want
	g.cl.AddConsumeTopics(want...)
}

// run reports errors of the membership until ctx ends.
func (g *groupClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		g.cl.PollFetches(ctx).EachError(func(_ string, _ int32, err error) {
			if ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
				return
			}
			g.failed(err)
		})
	}
}

// failed decides whether the application can go on after an error of the group. kgo joins again by itself.
func (g *groupClient) failed(err error) {
	a := g.app
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		a.fail(fmt.Errorf("group %s: another process uses the instance id %q: give each process its own Config.InstanceID (or StateDir): %w", a.cfg.AppID, *g.instanceID, err))
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		a.fail(fmt.Errorf("group %s: it has members that are not of this library (protocol %q): use another Config.AppID, or stop them: %w", a.cfg.AppID, protocolName, err))
	case errors.Is(err, kerr.InvalidSessionTimeout):
		a.fail(fmt.Errorf("group %s: the cluster refuses Config.SessionTimeout %v: %w", a.cfg.AppID, a.cfg.SessionTimeout, err))
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.InvalidGroupID), errors.Is(err, kerr.GroupMaxSizeReached):
		a.fail(fmt.Errorf("group %s: %w", a.cfg.AppID, err))
	default:
		a.log.Warn("group membership failed, will join again", "group", a.cfg.AppID, "error", err)
	}
}

// assigned is called by kgo after each rebalance (the protocol is eager); what we got is in the balancer.
func (g *groupClient) assigned(_ context.Context, cl *kgo.Client, _ map[string][]int32) {
	got := g.balancer.received.Load()
	l := g.app.layout.Load()
	if got.made != 0 {
		l = g.app.lookFor(got.made)
		// A static member that comes back gets what it had, without a rebalance (KIP-345). If its program or the
		// topics changed meanwhile, that is no assignment of its tasks. Asked for once: members with different programs
		// would not agree ever.
		if got.made != l.made && !g.asked {
			g.asked = true
			g.app.log.Info("the assignment is of another topology, or other numbers of partitions: asking for a new one")
			cl.ForceRebalance()
			return
		}
		g.asked = got.made != l.made
	}
	ids, err := tasksOf(l.subs, l.plan.Partition, got.partitions)
	if err != nil {
		g.app.fail(fmt.Errorf("group %s: %w", g.app.cfg.AppID, err))
		return
	}
	m := membership{instanceID: g.instanceID}
	m.memberID, m.generation = cl.GroupMetadata()
	g.app.log.Info("tasks assigned", "generation", m.generation, "tasks", taskNames(ids))
	g.app.assign(m, l, ids)
}

// revoked is called before a rebalance: what is ready is committed and all tasks are given up.
func (g *groupClient) revoked(context.Context, *kgo.Client, map[string][]int32) { g.app.revoke(true) }

// lost is called when the group has given our tasks away: nothing can be committed any more.
func (g *groupClient) lost(context.Context, *kgo.Client, map[string][]int32) { g.app.revoke(false) }

// leave ends the membership. A static member stays in the group for SessionTimeout, so that its tasks wait for
// its restart; one whose instance id was only made up for fast restarts after a crash leaves it.
func (g *groupClient) leave(ctx context.Context) {
	// There is nothing to wait for: all is committed and given up. A JoinGroup can take until another member's
	// session ends.
	g.cancel()
	g.cl.CloseAllowingRebalance()
	if g.app.cfg.InstanceID != "" {
		return
	}
	rs, err := kadm.NewClient(g.app.client).LeaveGroup(ctx, kadm.LeaveGroup(g.app.cfg.AppID).InstanceIDs(*g.instanceID).Reason("the application stops"))
	if err == nil {
		err = rs.Error()
	}
	if err != nil && !errors.Is(err, kerr.UnknownMemberID) {
		g.app.log.Warn("could not leave the group, its members wait for the session timeout", "group", g.app.cfg.AppID, "error", err)
	}
}

func taskNames(ids []task.ID) []string {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = id.String()
	}
	return s
}

// position is where a source partition goes on.
type position struct {
	offset   int64 // -1: nothing was ever committed
	end      int64 // up to which there were records to read when the task was opened
	metadata string
}

// committed asks for the committed offsets of the group. It waits for offsets of transactions that are being
// completed (KIP-447): what it answers is final.
func (a *App) committed(ctx context.Context, tps []task.TopicPartition) (map[task.TopicPartition]position, error) {
	out := make(map[task.TopicPartition]position, len(tps))
	parts := make(map[string][]int32)
	for _, tp := range tps {
		parts[tp.Topic] = append(parts[tp.Topic], tp.Partition)
	}
	err := a.retry(ctx, "fetch committed offsets of group "+a.cfg.AppID, func(ctx context.Context) error {
		clear(out)
		return a.fetchOffsets(ctx, parts, out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (a *App) fetchOffsets(ctx context.Context, parts map[string][]int32, out map[task.TopicPartition]position) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.RequireStable = a.cfg.AppID, true
	for topic, ps := range parts {
		t := kmsg.NewOffsetFetchRequestTopic()
		t.Topic, t.Partitions = topic, ps
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, a.client)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return err
	}
	set := func(topic string, partition int32, offset int64, metadata *string, code int16) error {
		if err := kerr.ErrorForCode(code); err != nil {
			return &offsetError{topic, partition, err}
		}
		p := position{offset: offset}
		if metadata != nil {
			p.metadata = *metadata
		}
		out[task.TopicPartition{Topic: topic, Partition: partition}] = p
		return nil
	}
	for _, g := range resp.Groups { // version 8 and newer
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			return err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if err := set(t.Topic, p.Partition, p.Offset, p.Metadata, p.ErrorCode); err != nil {
					return err
				}
			}
		}
	}
	if len(resp.Groups) == 0 {
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := set(t.Topic, p.Partition, p.Offset, p.Metadata, p.ErrorCode); err != nil {
					return err
				}
			}
		}
	}
	for topic, ps := range parts {
		for _, p := range ps {
			if _, ok := out[task.TopicPartition{Topic: topic, Partition: p}]; !ok {
				return &offsetError{topic, p, fmt.Errorf("not in the coordinator's answer: %w", kerr.UnknownServerError)}
			}
		}
	}
	return nil
}
