package logdump

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// at is the time of everything that the tests write.
var at = time.UnixMilli(1_700_000_000_000)

// written makes a log in memory: two segments, an aborted transaction, a compressed batch, a compaction.
func written(t *testing.T) *vfs.Mem {
	fsys := vfs.NewMem()
	cfg := log.DefaultConfig()
	cfg.Compact, cfg.Delete, cfg.IndexIntervalBytes = true, false, 50
	l, _, err := log.Open(log.Options{FS: fsys, Dir: "data/t-0", Topic: "t", Config: cfg, Now: func() time.Time { return at }, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	put := func(o batch.Options, kv ...string) {
		b := batch.NewBuilder(o)
		for i := 0; i < len(kv); i += 2 {
			r := batch.Record{Key: []byte(kv[i]), Timestamp: at.UnixMilli(), Headers: []batch.Header{{Key: "h", Value: []byte{0, 'x'}}}}
			if kv[i+1] != "" {
				r.Value = []byte(kv[i+1])
			}
			b.Add(r)
		}
		p, err := b.Build()
		require.NoError(t, err)
		_, err = l.Append(p, 7, log.AppendOptions{})
		require.NoError(t, err)
	}
	put(batch.Options{}, "a", "1", "b", "1")
	put(batch.Options{Producer: &batch.Producer{ID: 9, Epoch: 2}, Transactional: true}, "c", "1")
	require.NoError(t, l.Roll())
	put(batch.Options{Codec: batch.Zstd}, "a", "2", "b", "")
	_, err = l.AppendMarker(batch.Marker{Producer: batch.Producer{ID: 9, Epoch: 2}, CoordinatorEpoch: 3, Timestamp: at.UnixMilli()}, 0, 7, at)
	require.NoError(t, err)
	require.NoError(t, l.Roll())
	put(batch.Options{}, "d", "1")
	l.SetHighWatermark(l.End())
	_, err = l.Compact(context.Background(), log.CompactOptions{MapBytes: 1 << 16, IOBytes: 1 << 16})
	require.NoError(t, err)
	require.NoError(t, l.Close(true))
	return fsys
}

func text(t *testing.T, fsys vfs.FS, path string, o Options) (string, error) {
	t.Helper()
	var out strings.Builder
	err := dump(&out, fsys, path, o)
	return out.String(), err
}

func edit(t *testing.T, fsys vfs.FS, path string, f func(p []byte) []byte) {
	p, err := vfs.ReadFile(fsys, path, 1<<20)
	require.NoError(t, err)
	p = f(p)
	file, err := fsys.Create(path)
	require.NoError(t, err)
	_, err = file.WriteAt(p, 0)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

func TestADirectoryIsPrintedWithAllThatBelongsToALog(t *testing.T) {
	out, err := text(t, written(t), "data", Options{Records: true})
	require.NoError(t, err)
	for _, line := range []string{
		"== data/t-0/00000000000000000000.log, ",
		"batch 2..2 at 0 size 61 records 0 leader epoch 7 newest 2023-11-14T22:13:20.000Z producer 9 epoch 2 sequence 0..0 transactional",
		`batch 3..4 at 61 size `,
		` zstd delete horizon 2023-11-15T22:13:20.000Z`,
		`  | 3 2023-11-14T22:13:20.000Z key "a" value "2" header "h"="\x00x"`,
		`  | 4 2023-11-14T22:13:20.000Z key "b" value null header "h"="\x00x"`,
		"  | 5 2023-11-14T22:13:20.000Z abort of producer 9 epoch 2, coordinator epoch 3",
		"offset 4 at 61", // an entry has the last offset of its batch
		"aborted transaction of producer 9 from offset 2, marker at 5, last stable offset then 6",
		"producer 9 epoch 2 last sequence 0 last offset 2 last time 2023-11-14T22:13:20.000Z coordinator epoch 3 transaction from none",
		"leader epoch 7 from offset 0",
	} {
		require.Contains(t, out, line)
	}
	brief, err := text(t, written(t), "data/t-0", Options{Check: true})
	require.NoError(t, err)
	require.Contains(t, brief, "data/t-0/00000000000000000000.log: 3 batches, 3 records\n")
	require.Contains(t, brief, "data/t-0/00000000000000000000.txnindex: 1 entries\n")
	require.NotContains(t, brief, "batch ")
}

func TestDamageIsNamedAndTheRestIsPrinted(t *testing.T) {
	const dir = "data/t-0/00000000000000000000"
	for name, c := range map[string]struct {
		file string
		edit func(p []byte) []byte
		says []string
	}{
		"a batch with a wrong checksum": {".log", func(p []byte) []byte { p[61+40] ^= 1; return p }, []string{
			"the batch at byte 61 (offset 3): corrupt record batch: CRC-32C is", "batch 5..5"}},
		"a file cut in the middle of a batch": {".log", func(p []byte) []byte { return p[:len(p)-5] }, []string{
			"cannot go on at byte", "with 73 left in the file"}},
		"a length that cannot be": {".log", func(p []byte) []byte { p[8] = 0xff; return p }, []string{"cannot go on at byte 0"}},
		"an index into a batch": {".index", func(p []byte) []byte { p[7]++; return p }, []string{
			"entry 0 (offset 4) is at byte 62, where no batch begins"}},
		"an index with another offset": {".index", func(p []byte) []byte { p[3]++; return p }, []string{
			"says offset 5, the batch at byte 61 ends with 4"}},
		"half an entry":            {".index", func(p []byte) []byte { return append(p, 1, 2, 3) }, []string{"not a multiple of 8"}},
		"a time that no batch has": {".timeindex", func(p []byte) []byte { p[7]++; return p }, []string{"says time"}},
		"an aborted transaction of another producer": {".txnindex", func(p []byte) []byte { p[9]++; return p }, []string{
			"the batch at offset 5 is a marker of producer 9, not 10"}},
		"an aborted transaction without marker": {".txnindex", func(p []byte) []byte { p[25]--; return p }, []string{
			"the batch at offset 4 is no abort marker"}},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := written(t)
			edit(t, fsys, dir+c.file, c.edit)
			out, err := text(t, fsys, "data/t-0", Options{})
			var problems *ProblemsError
			require.ErrorAs(t, err, &problems)
			for _, s := range c.says {
				require.Contains(t, out, s)
			}
			require.Contains(t, out, "leader epoch 7 from offset 0", "the other files are printed too")
		})
	}
}

func TestASnapshotWithAWrongChecksumIsAProblem(t *testing.T) {
	fsys := written(t)
	edit(t, fsys, "data/t-0/00000000000000000007.snapshot", func(p []byte) []byte { p[20] ^= 1; return p })
	_, err := text(t, fsys, "data", Options{})
	var problems *ProblemsError
	require.ErrorAs(t, err, &problems)
	require.Equal(t, 1, problems.Count)
	require.Contains(t, problems.First, "00000000000000000007.snapshot: CRC-32C")
}

func TestCheckpointsArePrinted(t *testing.T) {
	fsys := vfs.NewMem()
	require.NoError(t, fsys.MkdirAll("data"))
	file, err := fsys.Create("data/cleaner-offset-checkpoint")
	require.NoError(t, err)
	_, err = file.WriteAt(log.EncodeOffsets([]log.TopicOffset{{Topic: "t", Partition: 3, Offset: 42}}), 0)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	out, err := text(t, fsys, "data", Options{})
	require.NoError(t, err)
	require.Contains(t, out, "t-3 42\n")
}

func TestAFileThatIsNotOfALogIsRefused(t *testing.T) {
	fsys := vfs.NewMem()
	file, err := fsys.Create("meta.properties")
	require.NoError(t, err)
	require.NoError(t, file.Close())
	_, err = text(t, fsys, "meta.properties", Options{})
	require.ErrorContains(t, err, "is no file of a log")
	_, err = text(t, fsys, "missing.log", Options{})
	require.Error(t, err)
	require.False(t, errors.As(err, new(*ProblemsError)))
}

func TestRecordsOfInternalTopicsInWords(t *testing.T) {
	key := kmsg.OffsetCommitKey{Version: 1, Group: "g", Topic: "orders", Partition: 2}
	value := kmsg.OffsetCommitValue{Version: 4, Offset: 17, Metadata: "m"}
	got, err := decodeOffsets(key.AppendTo(nil), value.AppendTo(nil))
	require.NoError(t, err)
	require.Contains(t, got, `OffsetCommit {"Version":1,"Group":"g","Topic":"orders","Partition":2}: {"Version":4,"Offset":17`)
	got, err = decodeOffsets(key.AppendTo(nil), nil)
	require.NoError(t, err)
	require.Contains(t, got, ": deleted")
	got, err = decodeOffsets([]byte{0, 5, 0, 1, 'g', 0, 2, 'm', '1'}, nil)
	require.NoError(t, err)
	require.Equal(t, `ConsumerGroupMemberMetadata "g" "m1": deleted`, got)
	_, err = decodeOffsets([]byte{9}, nil)
	require.Error(t, err)

	txn := kmsg.TxnMetadataKey{TransactionalID: "pay"}
	got, err = decodeTransactions(txn.AppendTo(nil), nil)
	require.NoError(t, err)
	require.Equal(t, `TransactionMetadata {"Version":0,"TransactionalID":"pay"}: deleted`, got)

	got, err = decodeMetadata(nil, controller.Encode(nil, &controller.NoOpRecord{}))
	require.NoError(t, err)
	require.Equal(t, "NoOpRecord {}", got)

	require.NotNil(t, DecodeByTopic.of("__transaction_state"))
	require.Nil(t, DecodeByTopic.of("orders"))
}

func FuzzDump(f *testing.F) {
	for _, name := range []string{"1.log", "1.index", "1.timeindex", "1.txnindex", "1.snapshot"} {
		f.Add(name, []byte("x"))
	}
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		_, suffix, ok := strings.Cut(name, ".")
		if !ok || strings.ContainsAny(suffix, "/\\\x00") {
			return
		}
		fsys := vfs.NewMem()
		file, err := fsys.Create("00000000000000000001." + suffix)
		require.NoError(t, err)
		_, err = file.WriteAt(content, 0)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		for _, d := range []Decode{DecodeNothing, DecodeOffsets, DecodeTransactions, DecodeMetadata} {
			_, _ = text(t, fsys, "00000000000000000001."+suffix, Options{Records: true, Decode: d}) // must not panic
		}
	})
}
