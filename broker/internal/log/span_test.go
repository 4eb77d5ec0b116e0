package log

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// openSpans opens a log in the file system of the operating system, where there are spans.
func openSpans(t *testing.T, dir string, cfg Config, files *Files) *Log {
	l, _, err := Open(Options{FS: vfs.OS(), Dir: dir, Topic: "t", TopicID: topicID, Config: cfg, SameBoot: true, Files: files,
		Now: func() time.Time { return time.UnixMilli(1000) }})
	require.NoError(t, err)
	return l
}

// bytesOf takes the span of a result into memory.
func bytesOf(t *testing.T, res ReadResult) []byte {
	require.NotNil(t, res.Span)
	b := make([]byte, res.Span.Len())
	require.NoError(t, res.Span.ReadAt(b, 0))
	require.NoError(t, res.Span.File(func(f *os.File, pos int64) {
		same := make([]byte, len(b))
		_, err := f.ReadAt(same, pos)
		require.NoError(t, err)
		require.Equal(t, b, same)
	}))
	return b
}

func TestSpansAreWhatReadGives(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SegmentBytes = 300_000
	l := openSpans(t, filepath.Join(t.TempDir(), "t-0"), cfg, nil)
	for i := range 60 {
		_, err := l.Append(data(t, batch.Options{}, 1+i%3, 10_000+i*100), 0, AppendOptions{})
		require.NoError(t, err)
	}
	l.SetHighWatermark(l.End() - 7) // inside of the tail
	spans := 0
	for _, maxBytes := range []int{0, 20_000, 32 << 10, 50_000, 100_000, 1 << 20} {
		for _, minOne := range []bool{false, true} {
			for offset := int64(0); offset < l.End(); offset++ {
				want, err := l.Read(offset, maxBytes, ReadUncommitted, minOne)
				require.NoError(t, err)
				got, err := l.ReadSpan(offset, maxBytes, ReadUncommitted, minOne)
				require.NoError(t, err)
				if got.Span == nil {
					require.True(t, bytes.Equal(want.Records, got.Records))
					require.True(t, bytes.Equal(want.Tail, got.Tail))
					require.Equal(t, want.NextOffset, got.NextOffset)
				} else {
					spans++
					// Read may stop earlier, as it reads the way from the index to offset along.
					all, some := bytesOf(t, got), slices.Concat(want.Records, want.Tail)
					require.True(t, bytes.HasPrefix(all, some))
					require.NotEmpty(t, want.Records)
					require.GreaterOrEqual(t, got.NextOffset, want.NextOffset)
					next := int64(0)
					_, _ = batch.All(all, func(b batch.Batch) bool { next = b.LastOffset() + 1; return true })
					require.Equal(t, next, got.NextOffset)
				}
				want.Free()
				got.Free()
			}
		}
	}
	require.Positive(t, spans)
	for _, s := range l.segments {
		require.Zero(t, s.file.pins.Load())
		require.Equal(t, int32(1), s.refs.Load())
	}
	require.NoError(t, l.Close(true))
}

func TestSpansOutliveTheirSegmentAndLog(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SegmentBytes = 100_000
	files := NewFiles(vfs.OS(), 1) // none stays open but what must
	l := openSpans(t, filepath.Join(t.TempDir(), "t-0"), cfg, files)
	for range 20 {
		_, err := l.Append(data(t, batch.Options{}, 1, 20_000), 0, AppendOptions{})
		require.NoError(t, err)
	}
	_, err := l.Sync()
	require.NoError(t, err)
	l.SetHighWatermark(l.End())
	want, err := l.Read(0, 1<<20, ReadUncommitted, true)
	require.NoError(t, err)
	got, err := l.ReadSpan(0, 1<<20, ReadUncommitted, true)
	require.NoError(t, err)
	path := got.Span.Path()

	_, err = l.SetStart(15)
	require.NoError(t, err)
	n, err := l.DeleteUnread(l.Start())
	require.NoError(t, err)
	require.Positive(t, n)
	for at := int64(15); at < 20; at++ { // use other files
		other, err := l.Read(at, 1, ReadUncommitted, true)
		require.NoError(t, err)
		other.Free()
	}
	require.NoFileExists(t, path)
	require.Equal(t, want.Records, bytesOf(t, got))
	require.NoError(t, l.Close(true))
	require.Equal(t, want.Records, bytesOf(t, got))
	got.Free()
	require.NoFileExists(t, path+deletedSuffix)
	require.Zero(t, files.Open())
}

func TestBytesThatNobodyHasCheckedAreNotSpans(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "t-0")
	l := openSpans(t, dir, DefaultConfig(), nil)
	for range 5 {
		_, err := l.Append(data(t, batch.Options{}, 1, 20_000), 0, AppendOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, l.Close(true))
	l, _, err := Open(Options{FS: vfs.OS(), Dir: dir, Topic: "t", TopicID: topicID, Config: DefaultConfig(), SameBoot: true, Clean: true, Known: true, RecoveryPoint: 5,
		Now: func() time.Time { return time.UnixMilli(1000) }})
	require.NoError(t, err)
	l.SetHighWatermark(5)
	res, err := l.ReadSpan(0, 1<<20, ReadUncommitted, true)
	require.NoError(t, err)
	require.Nil(t, res.Span)
	require.NotEmpty(t, res.Records)
	require.NoError(t, l.Close(true))
}

func TestFilesInMemoryHaveNoSpans(t *testing.T) {
	l := openTest(t, vfs.NewMem(), DefaultConfig())
	_, err := l.Append(data(t, batch.Options{}, 1, 100_000), 0, AppendOptions{})
	require.NoError(t, err)
	l.SetHighWatermark(1)
	res, err := l.ReadSpan(0, 1<<20, ReadUncommitted, true)
	require.NoError(t, err)
	require.Nil(t, res.Span)
	require.NotEmpty(t, res.Records)
}
