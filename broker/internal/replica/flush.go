package replica

import (
	"math"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/log"
)

// Page-cache durability acknowledges before anything is flushed, but for topics that ask for flushes: the append that makes
// flush.messages unflushed records, and what comes until they are flushed, is acknowledged after that, and flush.ms after an
// append it is flushed at the latest.

// noteFlush takes over what a configuration says about flushes.
func (p *Partition) noteFlush(c log.Config) {
	p.flushMessages.Store(c.FlushMessages)
	p.flushMs.Store(c.FlushMs)
}

// mustFlush says whether what was appended up to end has to wait for a flush.
func (p *Partition) mustFlush(end int64) bool {
	if p.flushing.Load() {
		return true
	}
	if n := p.flushMessages.Load(); n < math.MaxInt64 && end-p.log.Durable() >= n {
		p.flushing.Store(true)
		return true
	}
	if ms := p.flushMs.Load(); ms < math.MaxInt64 {
		p.flushWithin(ms)
	}
	return false
}

// flushWithin has the partition flushed after so many milliseconds, if it is not going to be anyway.
func (p *Partition) flushWithin(ms int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flushTimer != nil || p.err != nil {
		return
	}
	p.flushTimer = time.AfterFunc(time.Duration(min(ms, maxFlushMs))*time.Millisecond, func() {
		p.mu.Lock()
		p.flushTimer = nil
		p.mu.Unlock()
		p.m.enqueue(p)
	})
}

const maxFlushMs = int64(math.MaxInt64 / time.Millisecond)
