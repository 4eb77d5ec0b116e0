package share

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Records of `__share_group_state`, in Kafka's formats: an int16 in front of the key names the type (0: ShareSnapshot, the whole
// state of a share partition; 1: ShareUpdate, what changed), one in front of the value its version. Keys are in the old encoding,
// values in the flexible one.
const (
	keySnapshot  = 0
	keyUpdate    = 1
	valueVersion = 0
	tagComplete  = 0 // of DeliveryCompleteCount (KIP-1226)
)

// noChange is the start offset of an update that does not move it, and of a state that has none yet.
const noChange = -1

// unknownComplete is a number of completed deliveries that is not known.
const unknownComplete = -1

// Key names a share partition.
type Key struct {
	Group     string
	Topic     [16]byte
	Partition int32
}

// state is the durable state of a share partition.
type state struct {
	snapshot    int32 // number of the snapshot that it is based on
	stateEpoch  int32 // of the group when the state was initialized; grows with each initialization
	leaderEpoch int32
	start       int64 // -1: none yet
	complete    int32 // -1: unknown
	batches     []Batch
	created     int64 // milliseconds
	written     int64 // milliseconds
}

// errUnknownKey is no error: a newer version may log what we need not know.
var errUnknownKey = errors.New("unknown record key")

func encodeKey(kind int16, k Key) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.Group)))
	b = append(b, k.Group...)
	b = append(b, k.Topic[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(k.Partition))
}

func decodeKey(b []byte) (kind int16, k Key, err error) {
	if len(b) < 2 {
		return 0, k, fmt.Errorf("record key of %d bytes", len(b))
	}
	kind = int16(binary.BigEndian.Uint16(b))
	if kind != keySnapshot && kind != keyUpdate {
		return 0, k, errUnknownKey
	}
	d := decoder{b: b[2:]}
	k.Group = string(d.take(int(d.uint16())))
	copy(k.Topic[:], d.take(16))
	k.Partition = int32(d.uint32())
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	if d.err != nil {
		return 0, k, fmt.Errorf("share state key: %w", d.err)
	}
	return kind, k, nil
}

// snapshotRecord is the whole state.
func snapshotRecord(k Key, s *state) coordinator.Record {
	b := binary.BigEndian.AppendUint16(nil, valueVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(s.snapshot))
	b = binary.BigEndian.AppendUint32(b, uint32(s.stateEpoch))
	b = binary.BigEndian.AppendUint32(b, uint32(s.leaderEpoch))
	b = binary.BigEndian.AppendUint64(b, uint64(s.start))
	b = binary.BigEndian.AppendUint64(b, uint64(s.created))
	b = binary.BigEndian.AppendUint64(b, uint64(s.written))
	return coordinator.Record{Key: encodeKey(keySnapshot, k), Value: appendTail(b, s)}
}

// updateRecord is what has changed: the start unless it is -1, and the batches.
func updateRecord(k Key, s *state) coordinator.Record {
	b := binary.BigEndian.AppendUint16(nil, valueVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(s.snapshot))
	b = binary.BigEndian.AppendUint32(b, uint32(s.leaderEpoch))
	b = binary.BigEndian.AppendUint64(b, uint64(s.start))
	return coordinator.Record{Key: encodeKey(keyUpdate, k), Value: appendTail(b, s)}
}

// tombstone forgets a share partition.
func tombstone(k Key) coordinator.Record { return coordinator.Record{Key: encodeKey(keySnapshot, k)} }

func appendTail(b []byte, s *state) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.batches))+1)
	for _, c := range s.batches {
		b = binary.BigEndian.AppendUint64(b, uint64(c.First))
		b = binary.BigEndian.AppendUint64(b, uint64(c.Last))
		b = append(b, byte(c.State))
		b = binary.BigEndian.AppendUint16(b, uint16(c.Count))
		b = append(b, 0) // no tags
	}
	if s.complete == unknownComplete {
		return append(b, 0)
	}
	b = append(b, 1, tagComplete, 4)
	return binary.BigEndian.AppendUint32(b, uint32(s.complete))
}

func decodeValue(kind int16, b []byte) (*state, error) {
	what := "share snapshot"
	if kind == keyUpdate {
		what = "share update"
	}
	d := decoder{b: b}
	if v := int16(d.uint16()); d.err == nil && v != valueVersion {
		return nil, fmt.Errorf("%s value of version %d, this program reads %d: start the version that wrote it, or a newer one", what, v, valueVersion)
	}
	s := &state{complete: unknownComplete}
	s.snapshot = int32(d.uint32())
	if kind == keySnapshot {
		s.stateEpoch = int32(d.uint32())
	}
	s.leaderEpoch = int32(d.uint32())
	s.start = int64(d.uint64())
	if kind == keySnapshot {
		s.created, s.written = int64(d.uint64()), int64(d.uint64())
	}
	d.batches(s)
	d.tags(func(tag uint64, v []byte) {
		if tag == tagComplete && len(v) == 4 {
			s.complete = int32(binary.BigEndian.Uint32(v))
		}
	})
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	if d.err != nil {
		return nil, fmt.Errorf("%s value: %w", what, d.err)
	}
	return s, nil
}

// decoder reads primitive types. After the first error everything is zero.
type decoder struct {
	b   []byte
	err error
}

var errShort = errors.New("it ends too early")

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		if d.err == nil {
			d.err = errShort
		}
		d.b = nil
		return make([]byte, min(max(n, 0), 16))
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) uint64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > math.MaxInt32 {
		if d.err == nil {
			d.err = errShort
		}
		d.b = nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// batches reads the state batches, which must be in order and not overlap.
func (d *decoder) batches(s *state) {
	n := int(d.uvarint()) - 1
	const least = 20
	if n > len(d.b)/least {
		d.take(n * least)
		return
	}
	end := int64(-1)
	for range max(n, 0) {
		c := Batch{First: int64(d.uint64()), Last: int64(d.uint64()), State: State(d.take(1)[0]), Count: int16(d.uint16())}
		d.tags(nil)
		if d.err != nil {
			return
		}
		if c.First <= end || c.Last < c.First || c.State != Available && !c.State.terminal() {
			d.err = fmt.Errorf("records %d to %d %v after record %d", c.First, c.Last, c.State, end)
			return
		}
		end = c.Last
		s.batches = append(s.batches, c)
	}
}

func (d *decoder) tags(f func(tag uint64, v []byte)) {
	for range d.uvarint() {
		tag := d.uvarint()
		v := d.take(int(d.uvarint()))
		if d.err != nil {
			return
		}
		if f != nil {
			f(tag, v)
		}
	}
}
