package stream_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

var versions = state.Versioned("versions", serde.String, texts, 100*time.Millisecond)

func at(ms int64) time.Time { return time.UnixMilli(ms) }

// row is a record of a table's stream of changes.
type row struct {
	k  string
	v  opt
	ms int64
}

func rows(d *streamtest.Driver, t stream.Topic[string, opt]) (all []row) {
	for _, r := range streamtest.Output(d, t).Drain() {
		all = append(all, row{r.Key, r.Value, r.Time.UnixMilli()})
	}
	return all
}

func TestAVersionedTableSendsOldVersionsOnButNotThoseBeforeItsHistory(t *testing.T) {
	b := stream.NewBuilder()
	stream.TableFrom(b, users, versions).ToStream().To(changes)
	d := streamtest.New(t, b)
	in := streamtest.Input(d, users)
	in.SendAt(at(1000), "a", stream.Some("1000"))
	in.SendAt(at(900), "a", stream.Some("900"))
	in.SendAt(at(899), "a", stream.Some("899")) // before the history
	in.SendAt(at(950), "b", opt{})
	require.Equal(t, []row{{"a", stream.Some("1000"), 1000}, {"a", stream.Some("900"), 900}, {"b", opt{}, 950}}, rows(d, changes))
	require.Equal(t, map[string]int64{"expired": 1}, d.Dropped())

	var log []string
	for _, r := range d.Records("app-versions-changelog") {
		log = append(log, string(r.Key)+"="+string(r.Value))
	}
	require.Equal(t, []string{"a=1000", "a=900", "a=899", "b="}, log, "the changelog has what the store does not take")
}

func TestGroupsOfAVersionedTableAreOfItsLatestValues(t *testing.T) {
	b := stream.NewBuilder()
	counts := state.KeyValue("counts", texts, serde.Int64)
	table := stream.TableFrom(b, users, versions).Filter(func(_ string, v opt) bool { return v.Or("") != "no" })
	stream.CountTable(stream.GroupTableBy(table, firstLetter, stream.Serdes(texts, texts)), counts)
	d := streamtest.New(t, b)
	in := streamtest.Input(d, users)
	count := func(group string) int64 {
		n, _ := streamtest.Get(d, counts, stream.Some(group))
		return n
	}
	in.SendAt(at(1000), "1", stream.Some("a"))
	in.SendAt(at(990), "1", stream.Some("b")) // late: not the latest
	require.EqualValues(t, 1, count("a"))
	require.EqualValues(t, 0, count("b"))
	in.SendAt(at(1010), "1", stream.Some("c"))
	require.EqualValues(t, 0, count("a"))
	require.EqualValues(t, 1, count("c"))
	in.SendAt(at(1005), "1", opt{}) // late as well
	require.EqualValues(t, 1, count("c"))
	require.Equal(t, map[string]int64{"stale": 2}, d.Dropped())
}

// Whether there was a value at the time of a late version, nobody knows, so a filter sends its result on even if it is
// nothing and was nothing. A filter with a store of one value per key asks that store.
func TestAFilterOfAVersionedTableSendsNothingToNothingOn(t *testing.T) {
	b := stream.NewBuilder()
	no := func(string, opt) bool { return false }
	table := stream.TableFrom(b, users, versions)
	stream.GroupTableBy(table, firstLetter) // wants old values
	filtered := table.Filter(no)
	filtered.ToStream().To(changes)
	filtered.Filter(no, stream.Materialized(userStore)).Filter(no).ToStream().To(stream.NewTopic("stored", serde.String, texts))
	d := streamtest.New(t, b)
	in := streamtest.Input(d, users)
	in.SendAt(at(1000), "a", stream.Some("1"))
	in.SendAt(at(990), "a", stream.Some("2"))
	require.Equal(t, []row{{"a", opt{}, 1000}, {"a", opt{}, 990}}, rows(d, changes))
	require.Empty(t, rows(d, stream.NewTopic("stored", serde.String, texts)))
}

func TestASkippedRecordLeavesNoVersion(t *testing.T) {
	for _, onDisk := range []bool{false, true} {
		b := stream.NewBuilder()
		table := stream.TableFrom(b, users, versions)
		stream.MapTable(table, func(v opt) opt {
			if strings.HasPrefix(v.Or(""), "bad") {
				panic("bad")
			}
			return v
		}).ToStream().To(changes)
		opts := []streamtest.Option{streamtest.ManualCommit(), streamtest.OnError(func(*stream.RecordError) stream.Action { return stream.Skip })}
		if onDisk {
			opts = append(opts, streamtest.OnDisk())
		}
		d := streamtest.New(t, b, opts...)
		in := streamtest.Input(d, users)
		in.SendAt(at(1000), "a", stream.Some("good"))
		in.SendAt(at(1000), "a", stream.Some("bad"))
		in.SendAt(at(1010), "a", stream.Some("bad"))
		in.SendAt(at(1020), "b", opt{}) // a tombstone is a version, although there was none before
		d.Commit()
		log := map[string]string{}
		for _, r := range d.Records("app-versions-changelog") {
			log[string(r.Key)+r.Time.UTC().Format(".000")] = string(r.Value)
		}
		require.Equal(t, map[string]string{"a.000": "good", "b.020": ""}, log)
		d.Restart()
		in.SendAt(at(1030), "a", stream.Some("better"))
		d.Commit()
		require.Equal(t, []row{{"a", stream.Some("good"), 1000}, {"b", opt{}, 1020}, {"a", stream.Some("better"), 1030}}, rows(d, changes))
	}
}

func TestAVersionedTableEmitsEachUpdate(t *testing.T) {
	b := stream.NewBuilder()
	stream.TableFrom(b, users, versions, stream.EmitPerCommit())
	_, err := b.Build()
	require.ErrorContains(t, err, `TableFrom: EmitPerCommit is not for tables that keep versions: store "versions"`)

	b = stream.NewBuilder()
	stream.TableFrom(b, users, versions).ToStream().To(changes)
	d := streamtest.New(t, b, streamtest.EmitPerCommit(), streamtest.ManualCommit())
	in := streamtest.Input(d, users)
	in.SendAt(at(1000), "a", stream.Some("1"))
	in.SendAt(at(1001), "a", stream.Some("2"))
	d.Commit()
	require.Len(t, rows(d, changes), 2)
}
