package replica

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// Clients retry a storage error without a word, so the log must name it, without being filled by it.
func TestStorageErrorsAreLoggedNowAndThen(t *testing.T) {
	mem := vfs.NewMem()
	clock := atomic.Int64{} // the maintenance looks at it too
	now := func() time.Time { return time.UnixMilli(clock.Load()) }
	clock.Store(time.Now().UnixMilli())
	var out bytes.Buffer
	m, err := Open(mem, "data", Config{CheckpointInterval: time.Hour}, now, slog.New(slog.NewTextHandler(&out, nil)))
	require.NoError(t, err)
	p := create(t, m, 0)
	refused := func() {
		_, err := p.Append(produced(batch.Options{}), AppendOptions{})
		require.ErrorIs(t, err, vfs.ErrNoSpace)
	}
	mem.SetCapacity(mem.Used() + 20)
	for range 100 {
		refused()
	}
	require.Equal(t, 1, strings.Count(out.String(), "storage error"), out.String())
	require.Regexp(t, `level=ERROR.*topic=t partition=0 error=".*00000000000000000000\.log.*no space left.*" not_logged=0`, out.String())
	clock.Add(complaintInterval.Milliseconds())
	refused()
	require.Equal(t, 2, strings.Count(out.String(), "storage error"))
	require.Contains(t, out.String(), "not_logged=99")
	_, err = p.Read(99, 1, ReadUncommitted, true)
	require.Error(t, err)
	require.Equal(t, 2, strings.Count(out.String(), "storage error"), "mistakes of clients are not logged")
	mem.SetCapacity(0)
	require.NoError(t, m.Close())
}

func TestADirectoryOfAnotherNodeIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	m := open(t, mem, "data", Config{NodeID: 1})
	require.NoError(t, m.Close())
	_, err := Open(mem, "data", Config{NodeID: 2}, nil, nil)
	require.EqualError(t, err, "open data directory data: it belongs to node 1, not to 2: start with node id 1, or choose another directory")
	m = open(t, mem, "data", Config{NodeID: 1})
	require.NoError(t, m.Close())
}
