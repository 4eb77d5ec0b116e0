package server

import (
	"context"
	"sync"
	"time"
)

// fetchWait is a fetch that waits for records. Nothing runs for it meanwhile: it stands in the lines of its partitions, with one
// timer; the server counts it among its goroutines. Who has something for it wakes it up, and only then a goroutine reads again.
//
//	wait ──► in the lines ──(records, deletion)──► run: read ──► enough, or time is over: answer
//	              ▲                                     │
//	              '───────── not enough yet ────────────'
type fetchWait struct {
	f      *fetch
	reply  func(any)
	signal func() // wake, made once

	mu      sync.Mutex
	running bool // run is under way
	again   bool // woken while running
	over    bool // the time is over, or nobody waits for the answer
	timer   *time.Timer
	stops   [2]func() bool // of what ends the wait: the connection, the server
}

// wait answers f when enough can be read or the client's time is over.
func (f *fetch) wait(ctx context.Context, reply func(any)) {
	w := &fetchWait{f: f, reply: reply, running: true}
	w.signal = w.wake
	f.s.all.Add(1)
	w.mu.Lock()
	w.timer = time.AfterFunc(f.maxWait, w.expire)
	w.stops[0] = context.AfterFunc(ctx, w.expire)
	w.stops[1] = context.AfterFunc(f.s.stopContext, w.expire)
	w.mu.Unlock()
	w.standInLine()
	if !w.pause() {
		go w.run()
	}
}

func (w *fetchWait) expire() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.wake()
}

// wake may be called by anybody, holding any lock.
func (w *fetchWait) wake() {
	w.mu.Lock()
	start := !w.running
	w.running, w.again = true, true
	w.mu.Unlock()
	if start {
		go w.run()
	}
}

// run reads again until there is nothing new to be read.
func (w *fetchWait) run() {
	for {
		w.mu.Lock()
		w.again = false
		over := w.over
		w.mu.Unlock()
		for _, p := range w.f.parts {
			if p.p != nil && p.err == nil {
				p.p.Leave(&p.waiter)
			}
		}
		w.f.read()
		if over || w.f.enough() {
			w.timer.Stop()
			for _, stop := range w.stops {
				stop()
			}
			w.f.answer(w.reply)
			w.f.s.all.Done()
			return
		}
		w.f.giveBack()
		w.standInLine()
		if w.pause() {
			return
		}
	}
}

// pause ends a run, unless somebody has woken it up meanwhile.
func (w *fetchWait) pause() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = w.again
	return !w.running
}

func (w *fetchWait) standInLine() {
	for _, p := range w.f.parts {
		if p.p != nil && p.err == nil {
			p.p.Wait(&p.waiter, p.offset, w.f.readableEnd(p), w.f.iso, w.signal)
		}
	}
}
