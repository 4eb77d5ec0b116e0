package share

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// FuzzRecords replays a record with any key and value, and an update with any value of the share partition that it names: no panic, the
// state's batches are in order, and a snapshot of the state means the same.
func FuzzRecords(f *testing.F) {
	k := Key{Group: "g", Topic: [16]byte{7}, Partition: 3}
	s := &state{snapshot: 2, stateEpoch: 1, leaderEpoch: 4, start: 10, complete: 5, created: 1, written: 2, batches: []Batch{
		{First: 10, Last: 12, State: Acknowledged, Count: 1}, {First: 13, Last: 13, State: Available, Count: 2}, {First: 20, Last: 1 << 40, State: Archived, Count: 5},
	}}
	whole, update := snapshotRecord(k, s), updateRecord(k, s)
	f.Add(whole.Key, whole.Value, update.Value)
	f.Add(update.Key, update.Value, update.Value)
	f.Add(whole.Key, []byte{}, []byte{0, 0})
	f.Add(whole.Key, snapshotRecord(k, &state{start: noChange, complete: unknownComplete}).Value, updateRecord(k, &state{start: 11, leaderEpoch: -1}).Value)
	f.Fuzz(func(t *testing.T, key, value, update []byte) {
		if len(value) == 0 {
			value = nil
		}
		m := NewMachine(CoordinatorConfig{})
		m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: key, Value: value}})
		for k := range m.states {
			m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: encodeKey(keyUpdate, k), Value: update}, Offset: 1})
		}
		m.Loaded(time.UnixMilli(0))
		for k, e := range m.states {
			end := int64(-1)
			for _, b := range e.batches {
				require.Less(t, end, b.First)
				require.LessOrEqual(t, b.First, b.Last)
				end = b.Last
			}
			r := snapshotRecord(k, &e.state)
			kind, k2, err := decodeKey(r.Key)
			require.NoError(t, err)
			require.EqualValues(t, keySnapshot, kind)
			require.Equal(t, k, k2)
			again, err := decodeValue(kind, r.Value)
			require.NoError(t, err)
			require.Equal(t, len(e.batches), len(again.batches))
			require.Equal(t, r, snapshotRecord(k, again))
		}
	})
}
