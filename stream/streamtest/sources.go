package streamtest

import (
	"fmt"
	"slices"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// matches tells whether a topic is one for the pattern of a source.
func (d *Driver) matches(topic string) bool {
	return slices.ContainsFunc(d.topology.Patterns(), func(p *topo.Pattern) bool { return p.Match(topic) })
}

// layOut plans the tasks for the topics that there are, and makes the internal topics and tasks that are missing.
func (d *Driver) layOut() error {
	read, _ := d.topology.UserTopics()
	partitions := map[string]int32{}
	for topic, l := range d.logs {
		if slices.Contains(read, topic) || d.matches(topic) {
			partitions[topic] = int32(len(l.partitions))
		}
	}
	plan, err := d.topology.Plan(d.o.appID, partitions)
	if err != nil {
		return err
	}
	for _, i := range plan.Internal {
		d.makeTopic(i.Name, i.Partitions)
		if has := len(d.logs[i.Name].partitions); has != int(i.Partitions) {
			return fmt.Errorf("existing internal topic %s has invalid partitions: expected %d, because %s; actual %d", i.Name, i.Partitions, plan.Why(i), has)
		}
	}
	d.plan = plan
	for i, sub := range d.topology.Subs {
		for p := range plan.Tasks[i] {
			r := d.runnerOf(task.ID{Subtopology: sub.ID, Partition: p})
			for _, s := range sub.Sources {
				for _, topic := range plan.Topics[s] {
					if p < plan.Partition[topic] {
						d.readers[task.TopicPartition{Topic: topic, Partition: p}] = r
					}
				}
			}
		}
	}
	slices.SortStableFunc(d.runners, func(a, b *runner) int { return a.id.Compare(b.id) })
	return nil
}

// runnerOf is the runner of a task, which is made if there is none.
func (d *Driver) runnerOf(id task.ID) *runner {
	for _, r := range d.runners {
		if r.id == id {
			return r
		}
	}
	r := &runner{d: d, on: d.instances[len(d.runners)%len(d.instances)], id: id, sub: d.topology.Sub(id.Subtopology),
		committed: map[task.TopicPartition]task.OffsetAndMetadata{}}
	d.runners = append(d.runners, r)
	return r
}

// topics are those that the sources of a task read, nil for that of a global store.
func (r *runner) topics() func(*topo.Node) []string {
	if r.partitions > 0 {
		return nil
	}
	plan := r.d.plan
	return func(n *topo.Node) []string { return plan.TopicsOf(n, r.id.Partition) }
}

// appear makes a topic that matches a pattern, if it is not there, and has the tasks read it.
func (d *Driver) appear(topic string) error {
	if d.logs[topic] != nil || !d.matches(topic) || d.failed != nil {
		return nil
	}
	return d.change(func() { d.makeTopic(topic, d.partitions(topic)) }, topic)
}

// AddPartitions gives a topic more partitions, n in all, as if that happened while the application runs: there are new tasks, if
// other topics do not have as many partitions. It fails as an application does if internal topics have too few for them.
func (d *Driver) AddPartitions(topic string, n int) error {
	l := d.logs[topic]
	switch {
	case d.failed != nil:
		return d.stopped()
	case l == nil:
		return fmt.Errorf("there is no topic %s", topic)
	case n < len(l.partitions):
		return fmt.Errorf("topic %s has %d partitions: it cannot have %d", topic, len(l.partitions), n)
	}
	return d.change(func() { l.partitions = append(l.partitions, make([][]int, n-len(l.partitions))...) }, topic)
}

// change changes a topic of sources. The tasks that read it are committed before and opened anew afterwards.
func (d *Driver) change(f func(), topic string) error {
	if err := d.commitAll(); err != nil {
		return err
	}
	f()
	if err := d.layOut(); err != nil {
		d.failed = err
		return err
	}
	for p := range d.plan.Partition[topic] {
		r := d.readers[task.TopicPartition{Topic: topic, Partition: p}]
		if r == nil || r.partitions > 0 {
			continue
		}
		if err := r.close(false); err != nil {
			return fmt.Errorf("close task %s: %w", r.id, err)
		}
	}
	for _, r := range d.runners {
		if r.task != nil {
			continue
		}
		if err := r.open(); err != nil {
			return fmt.Errorf("open task %s: %w", r.id, err)
		}
	}
	return d.drain()
}
