package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnEmptyKeyIsNotNull(t *testing.T) {
	d := OpenMemory(DirOptions{})
	task, err := d.OpenTask("0_0", []Spec{{Name: "s", Timestamped: true}}, TaskOptions{})
	require.NoError(t, err)
	kv := task.KV("s")
	require.NoError(t, kv.Put([]byte{}, []byte("v"), 1))
	require.NoError(t, kv.Dirty(func(d *Dirty) error {
		require.NotNil(t, d.Key, "a compacted changelog takes no null key")
		require.Empty(t, d.Key)
		return nil
	}))
	it := kv.Range(nil, nil, false)
	require.True(t, it.Next())
	require.NotNil(t, it.Key())
	require.NoError(t, it.Close())
	require.NoError(t, task.Close())
	require.NoError(t, d.Close())
}
