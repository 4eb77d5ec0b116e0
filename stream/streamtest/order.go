package streamtest

import "github.com/moldau-stream/moldau/internal/task"

// next chooses what comes next: a record and the task that processes it, or, without a record, a task that commits.
func (d *Driver) next() (rec *Record, r *runner, ok bool) {
	if d.random == nil {
		return d.first()
	}
	// What may come next: of each task with input the head of a partition with the smallest timestamp, and the commit of
	// each task that has something to commit.
	type choice struct {
		at     int // in the queue; -1: a commit
		runner *runner
	}
	var choices []choice
	of := map[*runner]int{} // index into choices
	seen := map[task.TopicPartition]bool{}
	for i, q := range d.queue {
		tp := task.TopicPartition{Topic: q.Topic, Partition: q.Partition}
		reader := d.readers[tp]
		if reader == nil || seen[tp] {
			continue
		}
		seen[tp] = true
		if j, ok := of[reader]; !ok {
			of[reader] = len(choices)
			choices = append(choices, choice{i, reader})
		} else if q.Time.Before(d.queue[choices[j].at].Time) {
			choices[j].at = i
		}
	}
	if !d.o.manual {
		for _, r := range d.runners {
			if r.dirty {
				choices = append(choices, choice{-1, r})
			}
		}
	}
	if len(choices) == 0 {
		d.queue = nil // records that nobody reads
		return nil, nil, false
	}
	c := choices[d.random.IntN(len(choices))]
	if c.at >= 0 {
		q := d.queue[c.at]
		d.queue = append(d.queue[:c.at:c.at], d.queue[c.at+1:]...)
		rec = &q
	}
	return rec, c.runner, true
}

// first is the record that was written first.
func (d *Driver) first() (*Record, *runner, bool) {
	for len(d.queue) > 0 {
		rec := d.queue[0]
		d.queue = d.queue[1:]
		if r := d.readers[task.TopicPartition{Topic: rec.Topic, Partition: rec.Partition}]; r != nil {
			return &rec, r, true
		}
	}
	return nil, nil, false
}

// Together makes the records that f sends be there at once, and processes them when f returns: in the order in which they
// were sent, or with Seed in any order that an application might take.
func (d *Driver) Together(f func()) {
	d.t.Helper()
	if d.together {
		d.t.Fatalf("streamtest: Together is called within Together")
	}
	d.together = true
	defer func() { d.together = false }()
	f()
	d.together = false
	if d.failed != nil {
		d.t.Fatalf("streamtest: %v", d.stopped())
	}
	if err := d.drain(); err != nil {
		d.t.Fatalf("streamtest: %v", err)
	}
}
