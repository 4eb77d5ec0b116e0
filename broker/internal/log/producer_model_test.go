package log

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// producerModel is what a partition of Apache Kafka knows of its producers, told in the plainest way: each producer's batches, its
// epoch, whether a transaction is open, and the transactions that are being verified.
type producerModel struct {
	t   *rapid.T
	o   Options
	l   *Log
	now time.Time

	producers map[int64]*modelProducer
	verifying map[int64]*modelVerification
	end       int64
	forgot    bool // somebody has expired
}

type modelProducer struct {
	epoch       int16
	coordinator int32
	sent        []sentBatch // of the epoch
	open        bool
	seen        time.Time
}

type sentBatch struct {
	first, last int32
	offset      int64
}

type modelVerification struct {
	epoch  int16
	lowest int32
	bumps  bool
	guard  Guard
}

const modelSequences = int64(math.MaxInt32) + 1 // 0 follows math.MaxInt32

func (m *producerModel) reopen(clean bool) {
	if m.l != nil {
		_, err := m.l.Sync()
		require.NoError(m.t, err)
		m.l.SetHighWatermark(m.end)
		require.NoError(m.t, m.l.Close(clean))
		m.verifying = map[int64]*modelVerification{}
		for _, p := range m.producers {
			p.seen = m.now // what was sent is all remembered: our snapshots have what Kafka's have not
		}
	}
	m.o.Clean, m.o.RecoveryPoint = m.l != nil && clean, m.end
	l, _, err := Open(m.o)
	require.NoError(m.t, err)
	m.l = l
	m.l.SetHighWatermark(m.end)
}

// produce appends a batch, or is refused as the model says.
func (m *producerModel) produce(id int64, epoch int16, first int32, n int, transactional, bumps bool) {
	b := batch.NewBuilder(batch.Options{Producer: &batch.Producer{ID: id, Epoch: epoch}, BaseSequence: first, Transactional: transactional})
	for range n {
		b.Add(batch.Record{Value: []byte("v"), Timestamp: m.now.UnixMilli()})
	}
	built, err := b.Build()
	require.NoError(m.t, err)
	last := int32((int64(first) + int64(n) - 1) % modelSequences)
	p := m.producers[id]

	var o AppendOptions
	if transactional {
		o.RequireVerification = true
		guard, needed, err := m.l.StartVerification(id, first, epoch, bumps)
		if p != nil && epoch < p.epoch {
			require.ErrorIs(m.t, err, kerr.InvalidProducerEpoch)
			return
		}
		require.NoError(m.t, err)
		require.Equal(m.t, p == nil || !p.open || p.epoch != epoch, needed)
		o.Guard = guard
		if needed {
			v := m.verifying[id]
			switch {
			case v == nil:
				v = &modelVerification{epoch: epoch, lowest: first, bumps: bumps, guard: guard}
				m.verifying[id] = v
			case epoch > v.epoch:
				v.epoch, v.lowest = epoch, first
			case epoch == v.epoch:
				v.lowest = min(v.lowest, first)
			}
			require.Equal(m.t, v.guard, guard)
		}
	}

	duplicate, want := m.outcome(p, m.verifying[id], epoch, first, last, transactional)
	res, err := m.l.Append(built, 0, o)
	switch {
	case want != nil:
		require.ErrorIs(m.t, err, want, "%+v", p)
		return
	case duplicate != nil:
		require.NoError(m.t, err, "%+v", p)
		require.True(m.t, res.Duplicate)
		require.Equal(m.t, duplicate.offset, res.BaseOffset)
		return
	}
	require.NoError(m.t, err, "%+v", p)
	require.False(m.t, res.Duplicate)
	require.Equal(m.t, m.end, res.BaseOffset)
	if p == nil {
		p = &modelProducer{epoch: epoch, coordinator: -1}
		m.producers[id] = p
	}
	if p.epoch != epoch {
		p.epoch, p.sent = epoch, nil
	}
	p.sent = append(p.sent, sentBatch{first, last, m.end})
	p.sent = p.sent[max(len(p.sent)-5, 0):]
	p.seen = m.now
	if transactional {
		p.open = true
		delete(m.verifying, id)
	}
	m.end += int64(n)
}

// outcome is the batch that a batch repeats, or the error for it.
func (m *producerModel) outcome(p *modelProducer, v *modelVerification, epoch int16, first, last int32, transactional bool) (*sentBatch, error) {
	if p != nil && p.epoch == epoch {
		for _, s := range p.sent {
			if s.first == first && s.last == last {
				return &s, nil
			}
		}
	}
	if p != nil && epoch < p.epoch {
		return nil, kerr.InvalidProducerEpoch
	}
	if v != nil && (first > v.lowest || v.bumps && first != 0 && (p == nil || len(p.sent) == 0)) {
		return nil, kerr.OutOfOrderSequenceNumber
	}
	if p == nil {
		return nil, nil // nothing to compare with
	}
	expected := int32(0)
	if n := len(p.sent); n > 0 && p.epoch == epoch {
		expected = int32((int64(p.sent[n-1].last) + 1) % modelSequences)
	}
	switch {
	case first != expected:
		return nil, kerr.OutOfOrderSequenceNumber
	case p.open && !transactional:
		return nil, kerr.InvalidTxnState
	}
	return nil, nil
}

// mark ends a transaction, or is refused as the model says.
func (m *producerModel) mark(id int64, epoch int16, coordinator int32, version int16) {
	p := m.producers[id]
	var want error
	if p != nil {
		switch {
		case epoch < p.epoch, version >= 2 && epoch == p.epoch && p.open:
			want = kerr.InvalidProducerEpoch
		case coordinator < p.coordinator:
			want = kerr.TransactionCoordinatorFenced
		}
	}
	offset, err := m.l.AppendMarker(batch.Marker{
		Producer: batch.Producer{ID: id, Epoch: epoch}, CoordinatorEpoch: coordinator, Timestamp: m.now.UnixMilli(),
	}, version, 0, m.now)
	if want != nil {
		require.ErrorIs(m.t, err, want)
		return
	}
	require.NoError(m.t, err)
	require.Equal(m.t, m.end, offset)
	m.end++
	if p == nil {
		p = &modelProducer{epoch: epoch}
		m.producers[id] = p
	}
	if p.epoch != epoch {
		p.epoch, p.sent = epoch, nil
	}
	p.open, p.coordinator, p.seen = false, coordinator, m.now
	if v := m.verifying[id]; v != nil && !(v.bumps && v.epoch == epoch) {
		delete(m.verifying, id)
	}
}

func (m *producerModel) check() {
	states := m.l.Producers()
	require.Len(m.t, states, len(m.producers))
	for _, s := range states {
		p := m.producers[s.ID]
		require.NotNil(m.t, p, "producer %d", s.ID)
		require.Equal(m.t, p.epoch, s.Epoch)
		require.Equal(m.t, p.coordinator, s.CoordinatorEpoch)
		require.Equal(m.t, p.open, s.TxnFirstOffset >= 0)
		if n := len(p.sent); n > 0 {
			require.Equal(m.t, p.sent[n-1].last, s.LastSequence)
		} else {
			require.Equal(m.t, int32(batch.NoSequence), s.LastSequence)
		}
	}
}

// TestProducersFollowTheModel sends what producers may send, and what they may not: repetitions, gaps, sequence numbers that wrap, old
// and new epochs, data outside of transactions, markers of both transaction versions, while the log is closed, opened after a crash
// and forgets who was quiet.
func TestProducersFollowTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &producerModel{t: t, now: time.UnixMilli(1_000_000), producers: map[int64]*modelProducer{}, verifying: map[int64]*modelVerification{}}
		m.o = Options{
			FS: vfs.NewMem(), Dir: "t-0", Topic: "t", TopicID: topicID, Config: DefaultConfig(), SameBoot: true,
			Now: func() time.Time { return m.now },
		}
		m.reopen(true)
		ids := rapid.Int64Range(1, 3)
		// near draws what fits a producer most of the time.
		near := func(t *rapid.T, id int64) (epoch int16, first int32) {
			p := m.producers[id]
			if p == nil {
				return rapid.Int16Range(0, 2).Draw(t, "epoch"), rapid.SampledFrom([]int32{0, 0, 0, 7, math.MaxInt32 - 2}).Draw(t, "first")
			}
			epoch = p.epoch + rapid.SampledFrom([]int16{0, 0, 0, 0, 0, 1, -1}).Draw(t, "epoch")
			if n := len(p.sent); n > 0 && epoch == p.epoch {
				first = int32((int64(p.sent[n-1].last) + 1) % modelSequences)
			}
			first += rapid.SampledFrom([]int32{0, 0, 0, 0, 1, -1}).Draw(t, "gap")
			return max(epoch, 0), max(first, 0)
		}
		t.Repeat(map[string]func(*rapid.T){
			"produce": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				epoch, first := near(t, id)
				transactional := rapid.Bool().Draw(t, "transactional")
				if p := m.producers[id]; p != nil && p.open && rapid.IntRange(0, 3).Draw(t, "stay") > 0 {
					transactional = true
				}
				m.produce(id, epoch, first, rapid.IntRange(1, 4).Draw(t, "n"), transactional, rapid.Bool().Draw(t, "bumps"))
			},
			"repeat": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				p := m.producers[id]
				if p == nil || len(p.sent) == 0 {
					t.Skip("nothing sent")
				}
				s := rapid.SampledFrom(p.sent).Draw(t, "batch")
				n := (int64(s.last)-int64(s.first)+modelSequences)%modelSequences + 1
				m.produce(id, p.epoch, s.first, int(n), rapid.Bool().Draw(t, "transactional"), false)
			},
			"mark": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				epoch, _ := near(t, id)
				m.mark(id, epoch, rapid.Int32Range(0, 1).Draw(t, "coordinator"), rapid.SampledFrom([]int16{0, 2}).Draw(t, "version"))
			},
			"close and open": func(*rapid.T) { m.reopen(true) },
			"crash": func(t *rapid.T) {
				if m.forgot {
					t.Skip("the log may bring back who was forgotten")
				}
				m.reopen(false)
			},
			"expire": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "s")) * time.Second)
				before := m.now.Add(-10 * time.Second)
				m.l.ExpireProducers(before, math.MaxInt)
				m.forgot = true
				for id, p := range m.producers {
					if !p.open && p.seen.Before(before) {
						delete(m.producers, id)
					}
				}
				for id := range m.verifying {
					if _, ok := m.l.producers.verifications[id]; !ok {
						delete(m.verifying, id) // old as well; its age is not modelled
					}
				}
				// What was forgotten stays so only if there is a later snapshot.
				res, err := m.l.Append(data(t, batch.Options{}, 1, 1), 0, AppendOptions{})
				require.NoError(t, err)
				m.end = res.LastOffset + 1
			},
			"": func(*rapid.T) { m.check() },
		})
		require.NoError(t, m.l.Close(true))
	})
}
