package txn

import "sync"

// producerIDBlock is how many producer ids are taken from the controller at once, as
// in Kafka. What is left of a block when the broker stops is never used.
const producerIDBlock = 1000

// maxIDWaiting bounds the requests that wait for a block.
const maxIDWaiting = 16384

// producerIDs hands out producer ids, each once, from blocks that are committed in
// the metadata log before the first of their ids is used.
type producerIDs struct {
	allocate func(n int64, done func(first int64, err error))

	mu        sync.Mutex
	next, end int64 // the rest of the block
	fetching  bool
	waiting   []func(int64, error) // only while fetching
}

// get calls done with a producer id that nobody else gets, now or when a block has
// come.
func (p *producerIDs) get(done func(id int64, err error)) {
	p.mu.Lock()
	if p.next < p.end {
		id := p.next
		p.next++
		p.mu.Unlock()
		done(id, nil)
		return
	}
	if len(p.waiting) >= maxIDWaiting {
		p.mu.Unlock()
		done(-1, errTooManyWaiting)
		return
	}
	p.waiting = append(p.waiting, done)
	fetch := !p.fetching
	p.fetching = true
	p.mu.Unlock()
	if fetch {
		p.allocate(producerIDBlock, p.fetched)
	}
}

func (p *producerIDs) fetched(first int64, err error) {
	p.mu.Lock()
	waiting := p.waiting
	p.waiting = nil
	p.fetching = false
	if err == nil {
		p.next, p.end = first, first+producerIDBlock
	}
	p.mu.Unlock()
	for _, done := range waiting {
		if err != nil {
			done(-1, err)
		} else {
			p.get(done) // asks for another block if more wait than this one has
		}
	}
}
