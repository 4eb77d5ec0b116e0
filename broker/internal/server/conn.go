package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/security"
)

// Conn is one client connection. One goroutine reads and dispatches requests, another writes answers while there are some:
//
//	reader --> slot --> handler ... reply --> slot is ready --> writer
//	             '--------> queue, in order of the requests -------^
//
// Invariants: answers leave in the order of the requests; at most Limits.InFlight requests are unanswered; when the connection
// has closed, nothing of it is referenced any more but by requests that are still parked, whose answers are dropped.
type Conn struct {
	s      *Server
	nc     net.Conn
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	r      *input
	spans  spanSender // nil: records go through memory

	listener  *Listener
	principal string            // reader only
	sasl      *security.Session // reader only; nil: the listener has no SASL
	failure   *loginFailure     // reader only; the connection ends after it

	mu      sync.Mutex
	changed sync.Cond
	queue   []*slot // unanswered requests in order; the writer removes them when they are written
	writing bool    // there is a writer; true whenever queue[0] is ready
	current *slot   // whose handler the reader is in
	inline  bool    // the reader is the writer, when its handler has returned; see flush
	closed  bool
	drain   bool      // no more requests are taken up
	muted   time.Time // until then nothing is read: the client is over a quota
	written time.Time // when the last answer was
	writers sync.WaitGroup

	w writerMemory // writer only

	software string // "name version" of the client library, from ApiVersions; reader only
}

// slot is the place of one request in the order of the answers.
type slot struct {
	correlation    int32
	flexibleHeader bool
	ready          bool
	body           any           // nil: nothing goes out
	budget         int64         // bytes to give back when answered
	throttle       time.Duration // what the answer tells the client

	// For the metrics of requests.
	key, version       int16
	received, answered time.Time
	local              atomic.Int64 // nanoseconds in the handler; 0 while it runs

	recycle bool     // nobody uses its frame when the handler has returned; reader only
	request *Request // who pays for it; nil: nobody
	size    int      // bytes of its frame
}

// errors that end a connection without being anybody's fault.
var (
	errIdle     = errors.New("idle")
	errShutdown = errors.New("the server shuts down")
	errNoMemory = errors.New("other requests have held all memory for requests for too long (Limits.RequestBytes)")
)

func newConn(s *Server, nc net.Conn, how *Listener) *Conn {
	if how.TLS != nil {
		nc = tls.Server(nc, how.TLS)
	}
	c := &Conn{s: s, nc: nc, listener: how, principal: security.Anonymous, r: newInput(nc), spans: spanSenderOf(nc)}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.changed.L = &c.mu
	if cfg := s.sasl(how); cfg != nil {
		c.sasl = security.NewSession(cfg)
	}
	return c
}

// Context ends when the connection closes.
func (c *Conn) Context() context.Context { return c.ctx }

// LocalAddr is the address that the client connected to.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr is the address of the client.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// InProcess tells whether the connection came by Server.DialContext.
func (c *Conn) InProcess() bool {
	return c.listener == &c.s.cfg.InProcess
}

// run serves the connection until it closes.
func (c *Conn) run() {
	if err := c.handshake(); err != nil {
		c.close(err)
		c.logEnd(err)
		return
	}
	err := c.read()
	c.flush()
	c.mu.Lock()
	c.drain = true
	c.changed.Broadcast()
	c.mu.Unlock()
	c.close(err)
	c.writers.Wait()
	c.drop()
	c.logEnd(context.Cause(c.ctx))
}

// handshake is that of TLS, if the listener has it.
func (c *Conn) handshake() error {
	nc, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.s.cfg.Limits.Stall)
	defer cancel()
	if err := nc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.principal = security.TLSPrincipal(nc.ConnectionState())
	return nil
}

// close ends the connection; the first cause is the one that is logged.
func (c *Conn) close(cause error) {
	c.cancel(cause)
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	_ = c.nc.Close() // nothing is left to be said on it
}

func (c *Conn) logEnd(cause error) {
	var fault *frameError
	level := slog.LevelDebug
	switch {
	case errors.As(cause, &fault):
		level = slog.LevelWarn
	case cause == nil, errors.Is(cause, io.EOF), errors.Is(cause, errIdle), errors.Is(cause, errShutdown),
		errors.Is(cause, net.ErrClosed), errors.Is(cause, syscall.ECONNRESET), errors.Is(cause, security.ErrExpired), errors.Is(cause, context.Canceled):
	default:
		level = slog.LevelInfo
	}
	c.s.log.Log(context.Background(), level, "connection closed", "client", c.RemoteAddr().String(), "principal", c.principal, "software", c.software, "reason", cause)
}

// read takes up requests until the connection ends.
func (c *Conn) read() error {
	for {
		if !c.r.whole() {
			c.flush()
		}
		if err := c.awaitFrame(); err != nil {
			return err
		}
		if err := c.unmuted(); err != nil {
			return err
		}
		if err := c.next(); err != nil {
			return err
		}
		if c.failure != nil {
			return c.refuse()
		}
	}
}

// unmuted waits until the connection may be read. It is idle meanwhile: that its client goes away would not be noticed.
func (c *Conn) unmuted() error {
	idle := time.Now().Add(c.s.cfg.Limits.Idle)
	for {
		c.mu.Lock()
		until := c.muted
		c.mu.Unlock()
		if time.Until(until) <= 0 {
			return nil
		}
		if until.After(idle) {
			until = idle
		}
		c.flush()
		timer := time.NewTimer(time.Until(until))
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
			return context.Cause(c.ctx)
		}
		if !time.Now().Before(idle) {
			return errIdle
		}
	}
}

// awaitFrame waits for the first bytes of a frame. A connection is idle when it neither sends nor waits for an answer.
func (c *Conn) awaitFrame() error {
	since := time.Now()
	for c.r.buffered() < frameLength {
		if err := c.nc.SetReadDeadline(since.Add(c.s.cfg.Limits.Idle)); err != nil {
			return err
		}
		err := c.r.await(frameLength)
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		c.mu.Lock()
		waits, written := len(c.queue) > 0, c.written
		c.mu.Unlock()
		switch {
		case c.r.buffered() > 0:
			return errIdle
		case waits:
			since = time.Now()
		case written.After(since):
			since = written
		default:
			return errIdle
		}
	}
	return nil
}

// next reads one request and dispatches it.
func (c *Conn) next() error {
	least, most := leastFrame, c.s.cfg.Limits.FrameBytes
	if c.sasl != nil && !c.sasl.Done() {
		if limit := c.s.values().ListenerLong(c.listener.Name, "sasl.server.max.receive.size"); limit != -1 {
			most = int(min(int64(most), limit))
		}
		if c.sasl.Bare() {
			least = 0
		}
	}
	n, err := frameSize(c.r, least, most)
	if err != nil {
		return err
	}
	sl := &slot{}
	frame, err := readFrame(c.r, n,
		func() {
			if c.r.buffered() == 0 {
				_ = c.nc.SetReadDeadline(time.Now().Add(c.s.cfg.Limits.Stall))
			}
		},
		func(n int) error { return c.reserve(sl, n) })
	c.r.last = n
	c.r.release()
	switch {
	case err == nil:
		sl.received, sl.size = time.Now(), n
		c.enter(sl)
		err = c.dispatch(frame.B, sl)
		c.enter(nil)
		sl.local.Store(int64(time.Since(sl.received)))
		if sl.recycle {
			frame.Free()
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("the client began a request of %d bytes, and nothing more of it came within %v", n, c.s.cfg.Limits.Stall)
	}
	if err != nil {
		c.s.requests.release(sl.budget)
		sl.budget = 0
	}
	return err
}

// enter notes whose handler the reader is in.
func (c *Conn) enter(sl *slot) {
	c.mu.Lock()
	c.current = sl
	c.mu.Unlock()
}

// flush writes the answers that handlers gave before they returned. The reader does that by itself, which saves a switch to a writer,
// and one call for all of the requests that came together. It must do it before it waits for anything.
func (c *Conn) flush() {
	c.mu.Lock()
	inline := c.inline
	c.inline = false
	c.mu.Unlock()
	if inline {
		c.writers.Add(1)
		c.write()
	}
}

// reserve takes memory for a request that has no answer yet from the budget of all requests. It waits for it, but not for ever:
// requests that are only partly read may be all that holds the budget.
func (c *Conn) reserve(sl *slot, n int) error {
	c.flush()
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.s.cfg.Limits.Stall, errNoMemory)
	defer cancel()
	taken, err := c.s.requests.acquire(ctx, int64(n))
	if err != nil {
		return context.Cause(ctx)
	}
	sl.budget += taken
	return nil
}

// dispatch decodes a request, puts its slot into the queue and calls the handler.
func (c *Conn) dispatch(frame []byte, sl *slot) error {
	if c.sasl != nil && c.sasl.Bare() {
		return c.token(frame, sl)
	}
	h, body, err := parseHeader(frame)
	if err != nil {
		return &frameError{fmt.Sprintf("malformed request header: %v", err)}
	}
	if err := c.admit(h.key); err != nil {
		return err
	}
	a, ok := c.s.apis[h.key]
	if !ok {
		return &frameError{fmt.Sprintf("request of an API that is not served: %s (key %d)", kmsg.NameForKey(h.key), h.key)}
	}
	sl.correlation, sl.key, sl.version = h.correlation, h.key, h.version
	if h.key == keyApiVersions && (h.version < a.min || h.version > a.max) {
		// The one request that every server answers in every version, so that the two sides find a common one.
		if !c.push(sl) {
			return errShutdown
		}
		c.answer(sl, unsupportedApiVersions(a))
		return nil
	}
	if h.version < a.min || h.version > a.max {
		return &frameError{fmt.Sprintf("%s version %d is not served; versions %d to %d are", kmsg.NameForKey(h.key), h.version, a.min, a.max)}
	}
	if h.key == keyApiVersions && c.sasl != nil {
		if err := c.sasl.Versions(); err != nil {
			return c.unexpectedVersions(sl, h.version, err)
		}
	}
	flexible := c.s.flexible(h.key, h.version)
	if flexible {
		if body, err = skipTags(body); err != nil {
			return malformed(h, err)
		}
	}
	sl.flexibleHeader = flexible && h.key != keyApiVersions
	req := &Request{Ctx: c.ctx, Conn: c, Key: h.key, Version: h.version, ClientID: h.clientID,
		Principal: c.principal, Listener: c.listener.Name, slot: sl}
	sl.request = req
	if a.raw == nil {
		cost, err := walk(a.layout, body, h.version, flexible)
		if err != nil {
			return malformed(h, err)
		}
		if cost > smallFrame {
			if err := c.reserve(sl, cost); err != nil {
				return err
			}
		}
		msg := kmsg.RequestForKey(h.key)
		msg.SetVersion(h.version)
		if err := msg.ReadFrom(body); err != nil {
			return malformed(h, err)
		}
		req.Msg = msg
	}
	if !c.push(sl) {
		return errShutdown
	}
	if c.s.cfg.Faults != nil {
		if hit, err := c.fault(a, h, req, body, sl); hit {
			return err
		}
	}
	if h.key == int16(kmsg.Produce) && c.s.quotas.Active() {
		c.s.chargeProduce(req, sl.size)
	}
	sl.recycle = h.key == int16(kmsg.Produce)
	return c.perform(a, h, req, body, func(body any) { c.answer(sl, body) })
}

// perform calls the handler of a request.
func (c *Conn) perform(a api, h header, req *Request, body []byte, answer func(any)) error {
	if a.raw != nil {
		if err := a.raw(c.s, req, body, answer); err != nil {
			return malformed(h, err)
		}
		return nil
	}
	a.handle(c.s, req, func(r kmsg.Response) {
		if r == nil {
			answer(nil) // a nil interface, not an interface of nil
			return
		}
		answer(r)
	})
	return nil
}

func malformed(h header, err error) error {
	return &frameError{fmt.Sprintf("malformed %s request version %d: %v", kmsg.NameForKey(h.key), h.version, err)}
}

// push puts a slot into the queue when its turn has come. It reports whether the connection still takes requests.
//
// A request is taken up when everything before it on the connection is answered, as in Kafka: a heartbeat behind a JoinGroup that
// waits for others waits with it. Only a Produce does not wait for other Produces, whose commits can so share an fsync.
func (c *Conn) push(sl *slot) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed && !c.drain && !c.turn(sl) {
		if c.inline {
			c.mu.Unlock()
			c.flush()
			c.mu.Lock()
			continue
		}
		c.changed.Wait()
	}
	if c.closed || c.drain {
		return false
	}
	c.queue = append(c.queue, sl)
	return true
}

// turn tells whether a request may be taken up.
func (c *Conn) turn(sl *slot) bool {
	n := len(c.queue)
	if n == 0 {
		return true
	}
	return sl.key == int16(kmsg.Produce) && c.queue[n-1].key == int16(kmsg.Produce) && n < c.s.cfg.Limits.InFlight
}

// answer makes a slot ready. The second answer to a request is a bug of its handler.
func (c *Conn) answer(sl *slot, body any) {
	if sl.request != nil && c.s.quotas.Active() {
		spent := time.Duration(sl.local.Load())
		if spent == 0 { // the handler is still running
			spent = time.Since(sl.received)
		}
		c.s.charge(sl.request, spent)
	}
	c.mu.Lock()
	if sl.ready {
		c.mu.Unlock()
		panic(fmt.Sprintf("request %d of %s was answered twice; the second answer is %T", sl.correlation, c.RemoteAddr(), body))
	}
	if sl.throttle > 0 {
		if r, ok := body.(kmsg.SetThrottleResponse); ok {
			r.SetThrottle(int32(sl.throttle.Milliseconds()))
		}
	}
	sl.ready, sl.body, sl.answered, sl.request = true, body, time.Now(), nil
	budget := sl.budget
	sl.budget = 0
	if c.closed {
		discard(body)
		sl.body = nil
	} else if c.queue[0] == sl && !c.writing {
		c.writing = true
		if c.current == sl {
			c.inline = true
		} else {
			c.writers.Add(1)
			go c.write()
		}
	}
	c.mu.Unlock()
	c.s.requests.release(budget)
}

// discard gives back what an answer holds that will not be written.
func discard(body any) {
	if d, ok := body.(interface{ discard() }); ok {
		d.discard()
	}
}

// drop gives up the answers that were not written when the connection closed.
func (c *Conn) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sl := range c.queue {
		if sl.ready {
			discard(sl.body)
		}
	}
	c.queue = nil
}

// write sends answers, all that are ready with one call, until none is.
func (c *Conn) write() {
	defer c.writers.Done()
	w := &c.w
	for {
		c.mu.Lock()
		if c.closed || len(c.queue) == 0 || !c.queue[0].ready {
			w.shrink()
			c.writing = false
			c.mu.Unlock()
			return
		}
		ready := w.ready[:0]
		for _, sl := range c.queue {
			if !sl.ready {
				break
			}
			ready = append(ready, sl)
		}
		c.mu.Unlock()

		outs := w.outs[:0]
		for _, sl := range ready {
			if sl.body != nil {
				outs = append(outs, encode(sl.correlation, sl.flexibleHeader, sl.body))
			}
		}
		bufs, err := c.send(outs, w.bufs)
		for _, o := range outs {
			if o.release != nil {
				o.release()
			}
		}
		clear(outs)
		clear(bufs[:cap(bufs)])
		sent := time.Now()
		for _, sl := range ready {
			c.s.requestDone(sl, sent)
			sl.body = nil
		}
		if err != nil {
			c.close(err) // which ends the next round
			continue
		}
		c.mu.Lock()
		n := copy(c.queue, c.queue[len(ready):])
		clear(c.queue[n:])
		c.queue = c.queue[:n]
		c.written = sent
		c.changed.Broadcast()
		c.mu.Unlock()
		clear(ready)
		w.ready, w.bufs, w.outs = ready, bufs, outs
	}
}

// writerMemory is what a writer leaves to the next one.
type writerMemory struct {
	ready []*slot
	bufs  net.Buffers
	outs  []*output
}

// shrink gives up what only large answers need.
func (w *writerMemory) shrink() {
	if cap(w.ready)+cap(w.bufs) > 64 {
		*w = writerMemory{}
	}
}

// finish lets the connection end once everything that it asked for is answered, but for what waits for other clients.
func (c *Conn) finish() {
	c.mu.Lock()
	c.drain = true
	c.changed.Broadcast()
	for !c.closed && len(c.queue) > 0 && !(c.queue[0].waitsForClients() && !c.queue[0].ready) {
		c.changed.Wait()
	}
	c.mu.Unlock()
	c.close(errShutdown)
}

// waitsForClients tells whether the answer may be one that only the other members of a group can bring about.
func (sl *slot) waitsForClients() bool {
	return sl.key == int16(kmsg.JoinGroup) || sl.key == int16(kmsg.SyncGroup)
}
