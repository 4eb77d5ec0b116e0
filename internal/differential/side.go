package differential

import (
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// side is one broker in one run of a sequence.
type side interface {
	name() string
	// send asks step i; now is the step that the sequence is at. It does not wait.
	send(i int)
	// answered is closed when step i is answered. now is the last step that was sent.
	answered(i, now int) <-chan struct{}
	// eventually tells that step i will be answered, though not when.
	eventually(i int) bool
	// codes are the error codes of the answer to step i, which has come.
	codes(i int) []int16
	// retriable tells whether a client would ask step i again because of its answer.
	retriable(i int) bool
	// text is the canonical form of the answer to step i; asked once, in the order in which answers came.
	text(i int) []string
	// settle waits until what step i did is done.
	settle(i int)
	// dropped tells that the broker was restarted.
	dropped()
	close()
}

const connections = 4

// live is a broker that can be asked.
type live struct {
	label, addr string
	seq         *Sequence
	values      *values
	names       *names
	conns       [connections]*conn
	pendings    []*pending
	requests    []kmsg.Request // as sent
	answers     []kmsg.Response
	wrongs      []string
	changes     int // of metadata, waited for
	created     map[string]bool
	correlation int32
	admin       *conn
}

func newLive(label, addr string, seq *Sequence, prefix string) *live {
	_, port, _ := net.SplitHostPort(addr)
	n := len(seq.Steps)
	return &live{
		label: label, addr: addr, seq: seq, values: newValues(prefix), names: newNames(prefix, port),
		pendings: make([]*pending, n), requests: make([]kmsg.Request, n), answers: make([]kmsg.Response, n), wrongs: make([]string, n),
		created: map[string]bool{},
	}
}

func (l *live) name() string          { return l.label }
func (l *live) eventually(i int) bool { return false }

func (l *live) dropped() {
	for i, c := range l.conns {
		if c != nil {
			c.close()
		}
		l.conns[i] = nil
	}
	if l.admin != nil {
		l.admin.close()
		l.admin = nil
	}
	l.names.restarted = true
}

func (l *live) send(i int) {
	st := &l.seq.Steps[i]
	req := st.request()
	l.values.resolve(reflect.ValueOf(req).Elem(), l.seq.Vars)
	if p, ok := req.(*kmsg.ProduceRequest); ok {
		l.fillRecords(st, p)
	}
	l.requests[i] = req
	l.ask(i)
}

func (l *live) fillRecords(st *Step, p *kmsg.ProduceRequest) {
	raw, err := json.Marshal(st.Batches)
	if err != nil {
		panic(err)
	}
	var batches []Batch
	if err := json.Unmarshal(raw, &batches); err != nil {
		panic(err)
	}
	l.values.resolve(reflect.ValueOf(&batches).Elem(), l.seq.Vars)
	for t := range p.Topics {
		for j := range p.Topics[t].Partitions {
			rp := &p.Topics[t].Partitions[j]
			ref, ok := strings.CutPrefix(string(rp.Records), "@")
			if !ok {
				continue
			}
			rp.Records = nil
			for _, r := range strings.Split(ref, "@") {
				if n, err := strconv.Atoi(r); err == nil && n < len(batches) {
					rp.Records = append(rp.Records, batches[n].encode()...)
				}
			}
		}
	}
}

func (l *live) ask(i int) {
	st, req := &l.seq.Steps[i], l.requests[i]
	c := l.conns[st.Conn]
	if c == nil || c.isClosed() {
		var err error
		for range 50 {
			if c, err = dial(l.addr); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err != nil {
			p := &pending{done: make(chan struct{}), answer: answer{closed: true}}
			close(p.done)
			l.pendings[i] = p
			return
		}
		l.conns[st.Conn] = c
	}
	l.correlation++
	f := frame(req, l.correlation, st.Mangle)
	if p, ok := req.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
		c.sendSilent(f)
		// What comes behind it tells whether the connection is still there, and that the request was served.
		l.correlation++
		f = frame(&kmsg.ApiVersionsRequest{}, l.correlation, nil)
	}
	l.pendings[i] = c.send(f, l.correlation)
	l.answers[i], l.wrongs[i] = nil, ""
}

func (l *live) answered(i, _ int) <-chan struct{} { return l.pendings[i].done }

// look decodes the answer to step i.
func (l *live) look(i int) {
	p := l.pendings[i]
	if l.answers[i] != nil || l.wrongs[i] != "" {
		return
	}
	switch r, silent := l.requests[i].(*kmsg.ProduceRequest); {
	case p.answer.order:
		l.wrongs[i] = "answer to another request"
	case p.answer.closed:
		l.wrongs[i] = "connection closed"
	case silent && r.Acks == 0:
		l.wrongs[i] = "no answer, connection open"
	default:
		l.answers[i], l.wrongs[i] = decode(l.requests[i], p.answer.body)
	}
}

func (l *live) codes(i int) []int16 {
	l.look(i)
	if l.answers[i] == nil {
		return nil
	}
	return errorCodes(reflect.ValueOf(l.answers[i]).Elem(), nil)
}

func errorCodes(x reflect.Value, codes []int16) []int16 {
	switch x.Kind() {
	case reflect.Struct:
		for i := range x.NumField() {
			switch f := x.Field(i); {
			case x.Type().Field(i).Name == "ErrorCode" && f.Kind() == reflect.Int16:
				codes = append(codes, int16(f.Int()))
			default:
				codes = errorCodes(f, codes)
			}
		}
	case reflect.Slice:
		if x.Type().Elem().Kind() == reflect.Struct {
			for i := range x.Len() {
				codes = errorCodes(x.Index(i), codes)
			}
		}
	}
	return codes
}

func (l *live) text(i int) []string {
	l.look(i)
	var lines []string
	if resp := l.answers[i]; resp != nil {
		switch r := resp.(type) { // the group "" is any sequence's
		case *kmsg.ListGroupsResponse:
			r.Groups = slices.DeleteFunc(r.Groups, func(g kmsg.ListGroupsResponseGroup) bool { return !strings.HasPrefix(g.Group, l.values.prefix) })
			if len(r.Groups) == 0 {
				r.Groups = nil
			}
		case *kmsg.DescribeGroupsResponse:
			r.Groups = slices.DeleteFunc(r.Groups, func(g kmsg.DescribeGroupsResponseGroup) bool { return g.Group == "" })
		case *kmsg.DeleteGroupsResponse:
			r.Groups = slices.DeleteFunc(r.Groups, func(g kmsg.DeleteGroupsResponseGroup) bool { return g.Group == "" })
		}
		lines = l.names.lines(answerTree(resp, l.names.port))
		l.learn(i)
	}
	if l.wrongs[i] != "" {
		lines = append([]string{l.wrongs[i]}, lines...)
	}
	return lines
}

// learn sets variables from an answer.
func (l *live) learn(i int) {
	who := l.seq.Steps[i].Actor
	switch r := l.answers[i].(type) {
	case *kmsg.JoinGroupResponse:
		if r.MemberID != "" && (r.ErrorCode == 0 || r.ErrorCode == 79) {
			l.values.strings[who+".id"] = r.MemberID
		}
		if r.ErrorCode == 0 {
			l.values.numbers[who+".gen"] = int64(r.Generation)
		}
	case *kmsg.ConsumerGroupHeartbeatResponse:
		if r.ErrorCode == 0 {
			if r.MemberID != nil {
				l.values.strings[who+".id"] = *r.MemberID
			}
			l.values.numbers[who+".gen"] = int64(r.MemberEpoch)
		}
	case *kmsg.ShareGroupHeartbeatResponse:
		if r.ErrorCode == 0 {
			if r.MemberID != nil {
				l.values.strings[who+".id"] = *r.MemberID
			}
			l.values.numbers[who+".gen"] = int64(r.MemberEpoch)
		}
	case *kmsg.InitProducerIDResponse:
		if r.ErrorCode == 0 {
			l.values.numbers[who+".pid"], l.values.numbers[who+".epoch"] = r.ProducerID, int64(r.ProducerEpoch)
		}
	case *kmsg.EndTxnResponse:
		if r.ErrorCode == 0 && r.Version >= 5 {
			l.values.numbers[who+".pid"], l.values.numbers[who+".epoch"] = r.ProducerID, int64(r.ProducerEpoch)
		}
	case *kmsg.FetchResponse:
		if r.ErrorCode == 0 && r.SessionID != 0 {
			l.values.numbers[who+".session"] = int64(r.SessionID)
		}
	}
}

func (l *live) close() {
	for _, c := range l.conns {
		if c != nil {
			c.close()
		}
	}
	if len(l.created) > 0 {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TimeoutMillis = 5, 5000
		for t := range l.created {
			req.TopicNames = append(req.TopicNames, t)
		}
		l.adminAsk(req)
	}
	if l.admin != nil {
		l.admin.close()
	}
}

func (l *live) adminAsk(req kmsg.Request) (kmsg.Response, error) {
	if l.admin == nil || l.admin.isClosed() {
		c, err := dial(l.addr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.label, err)
		}
		l.admin = c
	}
	return l.admin.ask(req, 5*time.Second)
}
