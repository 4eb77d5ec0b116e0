package controller

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"
)

// Quorum carries records from a proposal to their commitment.
type Quorum interface {
	// Load calls replay for every committed record, in log order, and ends at the first error.
	Load(replay func(offset int64, r Record) error) error
	// Start begins the delivery of what is committed from now on: replay gets every proposal as a whole, in log order, one at a
	// time, and has returned before the proposal's done is called.
	Start(replay func(last int64, recs []Record))
	// Propose appends the records as one atomic unit. An error means that nothing was appended and done is not called. Otherwise
	// done is called exactly once, in the order of the proposals; with an error if it will never be known whether the records
	// are committed, after which no proposal is accepted any more.
	Propose(recs []Record, done func(error)) error
}

// Hooks lets the owner keep something per partition (its log) in step with the metadata. Both methods are called in log order
// by one goroutine at a time.
type Hooks interface {
	// Prepare is called before next is published: what next shows must exist when it returns.
	Prepare(next *Image, d Delta)
	// Published is called after next was published: what it no longer shows may go.
	Published(next *Image, d Delta)
}

// ErrFailed is the answer to updates after the metadata log has failed.
var ErrFailed = errors.New("the metadata log has failed; the broker has to be restarted")

// Controller turns updates into records and committed records into images. Its methods may be called from any goroutine.
type Controller struct {
	quorum Quorum
	hooks  Hooks
	image  atomic.Pointer[Image]

	mu       sync.Mutex
	pending  *Image  // image() + everything proposed; the base of the next update
	inFlight int     // proposals that are not committed yet
	tail     *parked // of the newest proposal in flight; nil if none
	failed   bool
}

// parked is what waits for a proposal beside its own update.
type parked struct{ done []func(error) }

// New makes a controller. Load has to be called before anything else.
func New(q Quorum, hooks Hooks) *Controller {
	c := &Controller{quorum: q, hooks: hooks, pending: emptyImage()}
	c.image.Store(c.pending)
	return c
}

// Load replays the metadata log and publishes its image, with one call of the hooks. removed are the names of topics that the log
// deletes and that do not exist any more: a deletion that a crash interrupted can be finished by them.
func (c *Controller) Load() (removed map[string]bool, err error) {
	b, last := newBuilder(emptyImage()), int64(-1)
	removed = map[string]bool{}
	apply := func(r Record) {
		if gone, ok := r.(*RemoveTopicRecord); ok {
			if t, ok := b.img.byID[gone.TopicID]; ok {
				removed[t.Name] = true
			}
		}
		b.apply(r)
	}
	var tx transaction
	err = c.quorum.Load(func(offset int64, r Record) error {
		last = offset
		return tx.read(r, apply)
	})
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(removed, func(name string, _ bool) bool { _, ok := b.img.topics[name]; return ok })
	c.publish(b, last)
	c.pending = c.Image()
	c.quorum.Start(c.replay)
	if tx.open {
		// Whoever wrote it was cut off. What is written from now on must not count as its part.
		reason := "the controller that wrote it has ended"
		c.Update(func(*Image) ([]Record, error) {
			return []Record{&AbortTransactionRecord{Reason: &reason}}, nil
		}, func(error) {}) // a failure makes every later update fail
	}
	return removed, nil
}

// transaction holds back the records of a metadata transaction until its end is known (KIP-868).
type transaction struct {
	open bool
	recs []Record
}

func (t *transaction) read(r Record, apply func(Record)) error {
	switch r.(type) {
	case *BeginTransactionRecord:
		if t.open {
			return errors.New("a metadata transaction begins within another")
		}
		t.open = true
	case *EndTransactionRecord, *AbortTransactionRecord:
		if !t.open {
			return errors.New("a metadata transaction ends that has not begun")
		}
		if _, ok := r.(*EndTransactionRecord); ok {
			for _, r := range t.recs {
				apply(r)
			}
		}
		*t = transaction{}
	default:
		if t.open {
			t.recs = append(t.recs, r)
			return nil
		}
		apply(r)
	}
	return nil
}

// Image is the newest committed metadata.
func (c *Controller) Image() *Image { return c.image.Load() }

func (c *Controller) publish(b *builder, last int64) {
	next, d := b.build(last), b.delta()
	if !d.Empty() {
		c.hooks.Prepare(next, d)
	}
	c.image.Store(next)
	if !d.Empty() {
		c.hooks.Published(next, d)
	}
}

func (c *Controller) replay(last int64, recs []Record) {
	b := newBuilder(c.Image())
	for _, r := range recs {
		b.apply(r)
	}
	c.publish(b, last)
}

// Update computes records with op from the newest image, which includes what is proposed but not committed, and proposes them.
// done is called once: with op's error, or when all that op saw and proposed is committed and published. It must not block.
// op is called exactly once, before Update returns, so that it can also build the answer; it must not call the controller.
func (c *Controller) Update(op func(*Image) ([]Record, error), done func(error)) {
	c.mu.Lock()
	recs, err := op(c.pending)
	if c.failed {
		c.mu.Unlock()
		done(ErrFailed)
		return
	}
	if err != nil {
		c.mu.Unlock()
		done(err)
		return
	}
	if len(recs) == 0 {
		if c.tail != nil { // op may have seen what is not committed yet
			c.tail.done = append(c.tail.done, done)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		done(nil)
		return
	}
	p := &parked{done: []func(error){done}}
	before := c.tail
	c.tail = p
	c.inFlight++
	err = c.quorum.Propose(recs, func(err error) { c.finished(p, err) })
	if err != nil {
		c.inFlight--
		c.tail = before
		c.mu.Unlock()
		done(err)
		return
	}
	b := newBuilder(c.pending)
	for _, r := range recs {
		b.apply(r)
	}
	c.pending = b.build(c.pending.offset + int64(len(recs)))
	c.mu.Unlock()
}

// finished is called when a proposal is committed and published, or has failed.
func (c *Controller) finished(p *parked, err error) {
	c.mu.Lock()
	c.inFlight--
	c.failed = c.failed || err != nil
	if c.tail == p {
		c.tail = nil
		c.pending = c.Image()
	}
	waiting := p.done
	c.mu.Unlock()
	for _, done := range waiting {
		done(err)
	}
}

// Elect raises the leader epoch of every partition, for a broker whose logs may have lost their ends: clients that compare epochs
// find out how far what they have read still exists (KIP-320).
func (c *Controller) Elect(leader int32, done func(error)) {
	c.Update(func(img *Image) ([]Record, error) {
		var recs []Record
		for t := range img.Topics() {
			for i := range t.Partitions {
				recs = append(recs, &PartitionChangeRecord{PartitionID: int32(i), TopicID: t.ID, Leader: leader})
			}
		}
		return recs, nil
	}, done)
}

// AllocateProducerIDs takes n producer ids for a broker; done gets the first of them.
func (c *Controller) AllocateProducerIDs(brokerID int32, n int64, done func(first int64, err error)) {
	var first int64
	c.Update(func(img *Image) ([]Record, error) {
		first = img.nextProducerID
		return []Record{&ProducerIDsRecord{BrokerID: brokerID, NextProducerID: first + n}}, nil
	}, func(err error) { done(first, err) })
}
