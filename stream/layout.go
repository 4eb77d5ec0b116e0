package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// layout is what the topology makes of the topics that the cluster has at one time: which tasks there are, and what each reads.
// It changes while the application runs: topics that a pattern matches come and go, and topics are given partitions.
//
//	metadata (every kgo.MetadataMaxAge, at each rebalance, after errors) --> layout --changed--> rebalance
//	                                                                                               |
//	the leader divides its layout --> assignment with a fingerprint --> members have the same one, or look again
//
// An assignment is made of one layout, and its tasks keep to it until the next assignment.
type layout struct {
	plan *topo.Plan
	subs []sourceTopics
	ids  map[string][16]byte // of the topics: one that was made anew is another topic
	made uint64              // fingerprint of what is divided: of the topics of tasks
}

func (a *App) newLayout(p *topo.Plan) *layout {
	l := &layout{plan: p, ids: map[string][16]byte{}}
	for _, s := range a.topology.Subs {
		if len(s.Sources) == 0 {
			continue
		}
		st := sourceTopics{Subtopology: s.ID}
		for _, n := range s.Sources {
			if n.Pattern == nil {
				st.Topics = append(st.Topics, p.Topics[n]...)
				continue
			}
			st.Patterns = append(st.Patterns, n.Pattern.String())
			st.Matched = append(st.Matched, p.Topics[n]...)
		}
		slices.Sort(st.Topics)
		slices.Sort(st.Matched)
		l.subs = append(l.subs, st)
		for _, t := range st.Matched {
			l.ids[t] = a.topicIDs.get(t)
		}
	}
	l.made = fingerprint(l.subs, p.Partition, l.ids)
	return l
}

// lost tells whether a topic of an earlier layout is gone, or was made anew.
func (l *layout) lost(old *layout) bool {
	for t, id := range old.ids {
		if now, ok := l.ids[t]; !ok || now != id {
			return true
		}
	}
	return false
}

// inputs are the source partitions of a task.
func (l *layout) inputs(id task.ID) []task.TopicPartition {
	var tps []task.TopicPartition
	for topic := range taskPartitions(l.subs, l.plan.Partition, []task.ID{id}) {
		tps = append(tps, task.TopicPartition{Topic: topic, Partition: id.Partition})
	}
	return tps
}

// source is the one of a topic, nil if it has none.
func (l *layout) source(topic string) *topo.Node {
	for n, topics := range l.plan.Topics {
		if slices.Contains(topics, topic) {
			return n
		}
	}
	return nil
}

// all are the topics of the sources.
func (l *layout) all() []string {
	var topics []string
	for _, s := range l.subs {
		topics = append(topics, s.all()...)
	}
	slices.Sort(topics)
	return topics
}

// named are the topics of sources that name them.
func (l *layout) named() []string {
	var topics []string
	for _, s := range l.subs {
		topics = append(topics, s.Topics...)
	}
	return topics
}

// misfitError says that the topology cannot run with the topics as they are.
type misfitError struct{ error }

func (e *misfitError) Unwrap() error { return e.error }

func misfit(err error) bool {
	_, ok := errors.AsType[*misfitError](err)
	return ok
}

// look asks the cluster for the topics of the program, creates the internal ones that are missing, and makes the layout anew if
// something changed; the result is the one that holds. An error ends the application, unless ctx ended.
func (a *App) look(ctx context.Context) (*layout, error) {
	a.looking.Lock()
	defer a.looking.Unlock()
	old := a.layout.Load()
	l, err := a.lookUp(ctx, old)
	switch {
	case err == nil:
		a.layout.Store(l)
	case old == nil:
		return nil, err
	case !misfit(err):
		return old, nil // it is the cluster, or a topic that is gone: who reads or joins says so, if it stays
	case ctx.Err() == nil && a.running.Err() == nil:
		err = fmt.Errorf("the topics of the application changed while it runs: %w", err)
		a.fail(err)
		return old, err
	}
	if old != nil && l != nil && l.made != old.made {
		a.log.Info("the topics of the application changed", "topics", strings.Join(l.all(), ", "), "before", strings.Join(old.all(), ", "))
	}
	if l == nil {
		l = old
	}
	return l, err
}

func (a *App) lookUp(ctx context.Context, old *layout) (*layout, error) {
	partitions, err := a.userPartitions(ctx)
	if err != nil {
		return nil, err
	}
	p, err := a.topology.Plan(a.cfg.AppID, partitions)
	if err != nil {
		return nil, &misfitError{err}
	}
	l := a.newLayout(p)
	if old != nil && l.made == old.made && maps.Equal(l.plan.Partition, old.plan.Partition) {
		return old, nil
	}
	return l, a.createInternal(ctx, p)
}

// userPartitions are the numbers of partitions of users' topics: of those that the program names, which must be there, and if it
// has patterns of all.
func (a *App) userPartitions(ctx context.Context) (map[string]int32, error) {
	read, written := a.topology.UserTopics()
	if a.cfg.DeadLetterTopic != "" {
		written = append(written, a.cfg.DeadLetterTopic)
	}
	names := slices.Concat(read, written)
	partitions, err := a.partitionCounts(ctx, names)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, t := range names {
		if partitions[t] == 0 && !slices.Contains(missing, t) {
			missing = append(missing, t)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, fmt.Errorf("topics that the application reads or writes do not exist: %s; create them first (for example: moldau topics create NAME --partitions N)", strings.Join(missing, ", "))
	}
	if patterns := a.topology.Patterns(); len(patterns) > 0 {
		all, err := a.allPartitionCounts(ctx)
		if err != nil {
			return nil, err
		}
		for topic, n := range all {
			if slices.ContainsFunc(patterns, func(p *topo.Pattern) bool { return p.Match(topic) }) {
				partitions[topic] = n
			}
		}
	}
	return partitions, nil
}

// lookFor is the layout with a fingerprint. If ours is another one, another member has seen topics that have not been seen here, or
// has another program.
func (a *App) lookFor(made uint64) *layout {
	l := a.layout.Load()
	for tries := 0; l.made != made && tries < 4; tries++ {
		if tries > 0 {
			wait(a.running, backoff(tries))
		}
		l, _ = a.look(a.running)
	}
	return l
}

// lookSoon has the topics looked at: something failed, and a topic that is gone may be the reason.
func (a *App) lookSoon() {
	select {
	case a.lookNow <- struct{}{}:
	default:
	}
}

// lookPause bounds how often topics are looked at because of errors.
const lookPause = 100 * time.Millisecond

// watchTopics looks at the topics again and again until ctx ends, and has the group divide them anew when they changed.
func (a *App) watchTopics(ctx context.Context, g *groupClient) {
	every, _ := a.client.OptValue(kgo.MetadataMaxAge).(time.Duration)
	tick := time.NewTicker(max(every, lookPause))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-a.lookNow:
		}
		before := a.layout.Load()
		l, err := a.look(ctx)
		if err != nil {
			return // the application ends
		}
		if l.made != before.made { // else it is the topic of a global table, which no task reads
			g.follow(l)
			g.cl.ForceRebalance()
		}
		wait(ctx, lookPause)
	}
}

// gone is whether an error of reading a topic is that it does not exist.
func gone(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}
