package server

import (
	"container/list"
	"context"
	"fmt"
	"sync"
)

// budget is a number of bytes shared by all connections. Large takers wait in order of arrival, so that none starves.
type budget struct {
	mu      sync.Mutex
	size    int64
	free    int64
	waiting list.List // of *waiter
}

type waiter struct {
	n     int64
	ready chan struct{}
}

func newBudget(size int64) *budget { return &budget{size: size, free: size} }

// acquire takes n bytes (the whole budget, if n is more), waiting until they are free or ctx ends. It returns what it took.
func (b *budget) acquire(ctx context.Context, n int64) (int64, error) {
	n = min(n, b.size)
	b.mu.Lock()
	if b.waiting.Len() == 0 && n <= b.free {
		b.free -= n
		b.mu.Unlock()
		return n, nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	e := b.waiting.PushBack(w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return n, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // granted meanwhile
		b.free += n
	default:
		b.waiting.Remove(e)
	}
	b.grant()
	return 0, ctx.Err()
}

// share takes at most n bytes without waiting: not more than a quarter of what is free, so that many takers get smaller shares
// instead of one taking all, and never less than floor, which may overdraw the budget by floor per taker.
func (b *budget) share(n, floor int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, max(b.free/4, floor))
	b.free -= n
	return n
}

// release gives n bytes back.
func (b *budget) release(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	b.free += n
	b.grant()
	b.mu.Unlock()
}

func (b *budget) grant() {
	for e := b.waiting.Front(); e != nil; e = b.waiting.Front() {
		w := e.Value.(*waiter)
		if w.n > b.free {
			return
		}
		b.free -= w.n
		b.waiting.Remove(e)
		close(w.ready)
	}
}

// checkWhole panics unless everything that was taken was given back.
func (b *budget) checkWhole(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free != b.size {
		panic(fmt.Sprintf("budget of %s: %d of %d bytes are free although nothing is in use", name, b.free, b.size))
	}
}
