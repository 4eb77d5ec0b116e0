package task_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

type text = stream.Opt[string]

var (
	texts  = serde.Nullable(serde.String)
	in     = stream.NewTopic("in", serde.String, serde.String)
	in2    = stream.NewTopic("in2", serde.String, serde.String)
	out    = stream.NewTopic("out", serde.String, serde.String)
	counts = state.KeyValue("counts", serde.String, serde.Int64)
	number = stream.NewTopic("out", serde.String, serde.Int64)
)

// harness runs the first sub-topology of a program as one task.
type harness struct {
	*task.Task
	t       *testing.T
	sent    []string // outputs as text
	fail    func(o *task.Out) error
	stores  *store.Task
	metrics task.Metrics
	offsets map[string]int64
}

func newHarness(t *testing.T, program func(b *stream.Builder), opts ...func(*task.Config)) *harness {
	b := stream.NewBuilder()
	program(b)
	topology, err := b.Build()
	require.NoError(t, err)
	h := &harness{t: t, offsets: map[string]int64{}}
	sub := topology.Graph().Subs[0]
	dir := store.OpenMemory(store.DirOptions{})
	h.stores, err = dir.OpenTask("0_0", task.Specs(sub), store.TaskOptions{})
	require.NoError(t, err)
	c := task.Config{AppID: "app", Sub: sub, Stores: h.stores, Output: h, Metrics: &h.metrics}
	for _, o := range opts {
		o(&c)
	}
	h.Task, err = task.New(c)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, h.Close())
		require.NoError(t, h.stores.Close())
		require.NoError(t, dir.Close())
	})
	return h
}

func (h *harness) Send(o *task.Out) error {
	if h.fail != nil {
		if err := h.fail(o); err != nil {
			return err
		}
	}
	s := fmt.Sprintf("%s %s=%s @%d", o.Topic, show(o.Key), show(o.Value), o.Timestamp)
	for _, hd := range o.Headers {
		s += fmt.Sprintf(" %s:%s", hd.Key, show(hd.Value))
	}
	h.sent = append(h.sent, s)
	return nil
}

func show(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) == 8 && b[0] == 0:
		return fmt.Sprint(b[7])
	}
	return string(b)
}

// take returns what was sent since the last call.
func (h *harness) take() []string {
	s := h.sent
	h.sent = nil
	return s
}

// add adds one batch of records "key=value @time header:value"; null is null.
func (h *harness) add(topic string, records ...string) {
	b := task.Batch{Topic: topic}
	for _, s := range records {
		b.Records = append(b.Records, h.record(topic, s))
	}
	h.Add(b)
}

func (h *harness) record(topic, s string) task.Record {
	f := strings.Fields(s)
	k, v, _ := strings.Cut(f[0], "=")
	r := task.Record{Offset: h.offsets[topic], LeaderEpoch: 3, Key: bytesOf(k), Value: bytesOf(v)}
	h.offsets[topic]++
	for _, x := range f[1:] {
		if ts, ok := strings.CutPrefix(x, "@"); ok {
			_, err := fmt.Sscan(ts, &r.Timestamp)
			require.NoError(h.t, err)
		} else {
			name, value, _ := strings.Cut(x, ":")
			r.Headers = append(r.Headers, task.Header{Key: name, Value: bytesOf(value)})
		}
	}
	return r
}

func bytesOf(s string) []byte {
	if s == "null" {
		return nil
	}
	return []byte(s)
}

func (h *harness) process() int {
	n, err := h.Process(1000)
	require.NoError(h.t, err)
	return n
}

func (h *harness) commit() task.Commit {
	c, err := h.Prepare()
	require.NoError(h.t, err)
	require.NoError(h.t, h.Committed(nil))
	return c
}

func (h *harness) dropped() string {
	var s []string
	for _, r := range task.Reasons() {
		if n := h.metrics.Dropped(r); n > 0 {
			s = append(s, fmt.Sprint(r, " ", n))
		}
	}
	return strings.Join(s, ", ")
}

func onError(actions ...task.Action) (func(*task.Config), *[]*task.RecordError) {
	var got []*task.RecordError
	return func(c *task.Config) {
		c.OnError = func(e *task.RecordError) task.Action {
			got = append(got, e)
			if len(got) > len(actions) {
				return task.Stop
			}
			return actions[len(got)-1]
		}
	}, &got
}

func deadLetter(c *task.Config) { c.DeadLetter = "dead" }
func perUpdate(c *task.Config)  { c.EmitPerUpdate = true }

var errBroken = errors.New("broken")
