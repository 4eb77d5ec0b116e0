package main

import (
	"io"
	"net"
	"sync"
)

// proxy is the address at which clients find the server, whichever process serves. When the server is killed it resets its connections,
// as the kernel does with those of a process that had not read everything. New ones wait until the next process serves: to franz-go's
// tests a refused connection is a broker that is gone for good.
type proxy struct {
	l    net.Listener
	work sync.WaitGroup // its goroutines

	mu     sync.Mutex
	change sync.Cond // target or closed changed
	target string    // address of the server, empty while none serves
	closed bool
	conns  map[net.Conn]struct{}
}

func newProxy(addr string) (*proxy, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &proxy{l: l, conns: make(map[net.Conn]struct{})}
	p.change.L = &p.mu
	p.work.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(client) })
		}
	})
	return p, nil
}

func (p *proxy) addr() string { return p.l.Addr().String() }

// up leads connections to the server at target.
func (p *proxy) up(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	p.change.Broadcast()
}

// down calls kill, which ends the server, and resets its connections.
func (p *proxy) down(kill func() error) error {
	p.mu.Lock()
	p.target = "" // first: how the connections of the server end is not passed on
	p.mu.Unlock()
	err := kill()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		reset(c)
	}
	return err
}

// close ends everything.
func (p *proxy) close() {
	p.l.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		reset(c)
	}
	p.change.Broadcast()
	p.mu.Unlock()
	p.work.Wait()
}

// serve copies between the client and the server until one of them ends.
func (p *proxy) serve(client net.Conn) {
	server := p.connect(client)
	if server == nil {
		reset(client)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pipe(server, client) })
	both.Go(func() { p.pipe(client, server) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range []net.Conn{client, server} {
		delete(p.conns, c)
		c.Close()
	}
}

// connect waits for a server and connects to it; nil if there will be none.
func (p *proxy) connect(client net.Conn) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for p.target == "" && !p.closed {
			p.change.Wait()
		}
		if p.closed {
			return nil
		}
		target := p.target
		p.mu.Unlock()
		server, err := net.Dial("tcp", target)
		p.mu.Lock()
		if p.target == target && err == nil && !p.closed {
			p.conns[client], p.conns[server] = struct{}{}, struct{}{}
			return server
		}
		if err == nil {
			reset(server)
		} else if p.target == target {
			return nil
		}
	}
}

// pipe copies until either side ends, and ends the other in the same way.
func (p *proxy) pipe(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil || p.dead() {
		reset(to)
		reset(from)
		return
	}
	if t, ok := to.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}

// dead says whether there is no server.
func (p *proxy) dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target == "" || p.closed
}

// reset closes so that the other side gets an error and not the end of the stream.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}
