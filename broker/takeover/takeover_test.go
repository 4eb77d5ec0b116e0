package takeover

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// unpack unpacks a directory that Apache Kafka wrote; see testdata/make.sh.
func unpack(t *testing.T, name string) string {
	dir := t.TempDir()
	f, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		require.NoError(t, err)
		path := filepath.Join(dir, filepath.Clean(h.Name))
		if h.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, data, 0o644))
	}
}

// unended is the part of a description that depends on when it is looked at: the transaction that the node did not live to see the end
// of is aborted by its timeout.
var unended = regexp.MustCompile(`(?m)^topic fill-open (.*\n)(  .*\n)*`)

func TestDirectoriesOfApacheKafkaAreTakenOverWithEveryRecord(t *testing.T) {
	for _, kind := range []string{"clean", "killed"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := unpack(t, kind+".tgz")
			want, err := os.ReadFile(filepath.Join("testdata", kind+".txt"))
			require.NoError(t, err)

			_, err = broker.Start(t.Context(), broker.Config{DataDir: dir})
			require.ErrorContains(t, err, "moldau takeover")
			looked, err := Run(dir, Options{DryRun: true})
			require.NoError(t, err)
			r, err := Run(dir, Options{Verify: true})
			require.NoError(t, err)
			require.Equal(t, kind == "clean", r.Clean)
			require.Equal(t, "acceptanceAAAAAAAAAAAA", r.ClusterID)
			require.Len(t, looked.Topics, len(r.Topics))
			_, err = Run(dir, Options{})
			require.ErrorIs(t, err, ErrAlready)

			b, err := broker.Start(t.Context(), broker.Config{DataDir: dir, Listen: []string{"127.0.0.1:0"}})
			require.NoError(t, err)
			defer b.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			got := describe(t, ctx, b.Addrs()[0])
			require.Equal(t, unended.ReplaceAllString(string(want), ""), unended.ReplaceAllString(got, ""))

			cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.DefaultProduceTopic("fill-none"))
			require.NoError(t, err)
			defer cl.Close()
			adm := kadm.NewClient(cl)
			// A producer that comes back fences the one that was cut off: its transaction is aborted, the records stay.
			again, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.TransactionalID("left-open"))
			require.NoError(t, err)
			defer again.Close()
			_, epoch, err := again.ProducerID(ctx)
			require.NoError(t, err)
			require.Positive(t, epoch)
			for {
				stable, err := adm.ListCommittedOffsets(ctx, "fill-open")
				require.NoError(t, err)
				if o, _ := stable.Lookup("fill-open", 0); o.Offset == 4 {
					break
				}
				require.NoError(t, ctx.Err())
				time.Sleep(10 * time.Millisecond)
			}
			require.Len(t, read(t, ctx, b.Addrs()[0], "fill-open", false)["fill-open/0"], 4)
			require.Len(t, read(t, ctx, b.Addrs()[0], "fill-open", true)["fill-open/0"], 1, "the marker")
			// A new producer does not get the id of an old one.
			require.NoError(t, cl.ProduceSync(ctx, kgo.StringRecord("new")).FirstErr())
			id, _, err := cl.ProducerID(ctx)
			require.NoError(t, err)
			require.Greater(t, id, int64(10))
			require.NoError(t, b.Close())

			// The second start finds nothing to do.
			b, err = broker.Start(t.Context(), broker.Config{DataDir: dir})
			require.NoError(t, err)
			require.NoError(t, b.Close())
		})
	}
}

// interrupted fails an operation, after which it does everything as if the process had ended there.
type interrupted struct {
	vfs.FS
	left int
}

var errInterrupted = errors.New("interrupted")

func (f *interrupted) step() error {
	if f.left--; f.left < 0 {
		return errInterrupted
	}
	return nil
}

func (f *interrupted) Create(name string) (vfs.File, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	return f.FS.Create(name)
}

func (f *interrupted) Rename(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *interrupted) Remove(name string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func TestAnInterruptedTakeoverIsRepeated(t *testing.T) {
	dir := unpack(t, "clean.tgz")
	complete := &interrupted{FS: vfs.OS(), left: 1 << 30}
	whole, err := Run(unpack(t, "clean.tgz"), Options{FS: complete})
	require.NoError(t, err)
	steps := 1<<30 - complete.left
	require.Greater(t, steps, 8)
	// Each run ends at a later step, all on the same directory.
	for n := range steps {
		if _, err = Run(dir, Options{FS: &interrupted{FS: vfs.OS(), left: n}}); err == nil {
			break
		}
		require.ErrorIs(t, err, errInterrupted)
	}
	r, err := Run(dir, Options{})
	if err == nil {
		require.Equal(t, whole.Topics, r.Topics)
	} else {
		require.ErrorIs(t, err, ErrAlready)
	}
	b, err := broker.Start(t.Context(), broker.Config{DataDir: dir})
	require.NoError(t, err)
	require.NoError(t, b.Close())
}

func TestWhatCannotBeTakenOverIsRefusedUntouched(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string
	}{
		"no directory of Kafka": {func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "meta.properties"))) }, "meta.properties"},
		"version 0": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "meta.properties"), []byte("version=0\nbroker.id=1\ncluster.id=x\n"), 0o644))
		}, "version=1"},
		"a partition is missing": {func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "fill-lz4-1"))) }, "fill-lz4-1"},
		"another node": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, "meta.properties")
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, regexp.MustCompile(`node.id=1`).ReplaceAll(data, []byte("node.id=7")), 0o644))
		}, "node 7"},
		"damaged metadata": {func(t *testing.T, dir string) {
			f, err := os.OpenFile(filepath.Join(dir, "__cluster_metadata-0", "00000000000000000000.log"), os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{0xff}, 200)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}, "damaged at byte"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpack(t, "clean.tgz")
			c.damage(t, dir)
			_, err := Run(dir, Options{})
			require.ErrorContains(t, err, c.want)
			_, err = os.Stat(filepath.Join(dir, ".kafka_cleanshutdown"))
			require.NoError(t, err, "nothing was changed")
			_, err = os.Stat(filepath.Join(dir, keptMetadata))
			require.Error(t, err)
		})
	}
}
