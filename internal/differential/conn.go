package differential

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// answer is what a broker did about one request.
type answer struct {
	body   []byte // behind the correlation id
	closed bool   // the connection ended instead
	order  bool   // an answer to another request came
}

// pending is a request whose answer has not come. The channel is closed when it has.
type pending struct {
	correlation int32
	done        chan struct{}
	answer      answer
}

// conn is a connection that sends without waiting, and a goroutine that reads what comes.
type conn struct {
	net net.Conn

	mu      sync.Mutex
	waiting []*pending
	closed  bool
}

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	x := &conn{net: c}
	go x.read()
	return x, nil
}

func (c *conn) close() { c.net.Close() }

func (c *conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// send sends a frame; its answer comes to the result. silent requests get none.
func (c *conn) send(frame []byte, correlation int32) *pending {
	p := &pending{correlation: correlation, done: make(chan struct{})}
	c.mu.Lock()
	if c.closed {
		p.answer.closed = true
		close(p.done)
		c.mu.Unlock()
		return p
	}
	c.waiting = append(c.waiting, p)
	c.mu.Unlock()
	c.net.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.net.Write(frame); err != nil {
		c.net.Close()
	}
	return p
}

func (c *conn) sendSilent(frame []byte) error {
	_, err := c.net.Write(frame)
	return err
}

func (c *conn) read() {
	err := c.readAll()
	c.net.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, p := range c.waiting {
		p.answer = answer{closed: true, order: errors.Is(err, errOrder)}
		close(p.done)
	}
	c.waiting = nil
}

var errOrder = errors.New("answer to another request")

func (c *conn) readAll() error {
	var head [8]byte
	for {
		if _, err := io.ReadFull(c.net, head[:]); err != nil {
			return err
		}
		n := int(int32(binary.BigEndian.Uint32(head[:])))
		if n < 4 || n > 256<<20 {
			return errors.New("answer of an impossible size")
		}
		body := make([]byte, n-4)
		if _, err := io.ReadFull(c.net, body); err != nil {
			return err
		}
		c.mu.Lock()
		if len(c.waiting) == 0 || c.waiting[0].correlation != int32(binary.BigEndian.Uint32(head[4:])) {
			c.mu.Unlock()
			return errOrder
		}
		p := c.waiting[0]
		c.waiting = c.waiting[1:]
		p.answer.body = body
		close(p.done)
		c.mu.Unlock()
	}
}

// frame encodes a request and mangles it.
func frame(req kmsg.Request, correlation int32, m *Mangle) []byte {
	const client = "raw"
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID(client))
	p := f.AppendRequest(nil, req, correlation)
	if m == nil {
		return p
	}
	head := 4 + 8 + 2 + len(client)
	if req.IsFlexible() {
		head++
	}
	switch at := head + m.At; m.Op {
	case "key":
		binary.BigEndian.PutUint16(p[4:], uint16(m.At))
	case "version":
		binary.BigEndian.PutUint16(p[6:], uint16(m.At))
	case "cut":
		p = p[:max(head, len(p)-m.At)]
	case "extend":
		for range m.At {
			p = append(p, byte(m.By))
		}
	case "set":
		if at < len(p) {
			p[at] = byte(m.By)
		}
	case "null client":
		if !req.IsFlexible() {
			binary.BigEndian.PutUint16(p[12:], 0xffff)
			p = append(p[:14], p[14+len(client):]...)
		}
	}
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

// once asks one thing on a connection of its own.
func once(addr string, req kmsg.Request, limit time.Duration) (kmsg.Response, error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.ask(req, limit)
}

func (c *conn) ask(req kmsg.Request, limit time.Duration) (kmsg.Response, error) {
	p := c.send(frame(req, 77, nil), 77)
	select {
	case <-p.done:
	case <-time.After(limit):
		return nil, errors.New("no answer in time")
	}
	if p.answer.closed {
		return nil, io.EOF
	}
	resp, wrong := decode(req, p.answer.body)
	if wrong == "not readable" || wrong == "no header" {
		return nil, errors.New(wrong)
	}
	return resp, nil
}
