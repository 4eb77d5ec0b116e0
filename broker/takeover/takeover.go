// Package takeover turns a log directory that Apache Kafka wrote into one of Moldau's, in place.
//
//	Kafka's directory                                        Moldau's directory
//	__cluster_metadata-0/*.checkpoint, *.log --> image --> __cluster_metadata-0   (Kafka's is kept as kafka-metadata)
//	<topic>-<n>/                             --> checked, recovered ----> <topic>-<n>/   (untouched bytes)
//	*-checkpoint                             ------------------------> *-checkpoint
//	meta.properties                          --> + moldau.format.version
//
// The logs need no conversion, because Moldau's have Kafka's format: topics keep their ids, records, offsets, producer states and leader
// epochs; groups keep their offsets and transactions their states, which are records of internal topics. The metadata log
// begins anew with one batch that says what Kafka's log and snapshot said: topics and configurations, features, quotas, SCRAM
// credentials, and which producer ids are taken.
//
// Invariants:
//
//   - Until meta.properties is replaced, which is the last step, Kafka's metadata is there unchanged (under its own name or as
//     kafka-metadata), and a run that was interrupted can be repeated.
//   - Nothing is dropped in silence: a partition that the metadata names and the directory does not have, damage, and other nodes'
//     or other directories' replicas are errors that change nothing.
package takeover

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// Names in the directory.
const (
	metadataDir  = controller.MetadataTopic + "-0"
	keptMetadata = "kafka-metadata"      // Kafka's metadata log, kept
	newMetadata  = "moldau-metadata.new" // ours, until it is complete
)

// Options say how to take over. The zero value is usable.
type Options struct {
	// DryRun looks at everything and changes nothing. Logs that Kafka did not close are not recovered and not checked then.
	DryRun bool
	// Verify reads every record and checks its batch's CRC.
	Verify bool
	// Logger gets what is repaired; nil discards it.
	Logger *slog.Logger
	// FS holds the directory; nil is the operating system. Only tests inside this module can make one.
	FS vfs.FS
}

// Report says what was found.
type Report struct {
	ClusterID string
	NodeID    int32
	// Clean says that Kafka closed the directory properly.
	Clean  bool
	Topics []Topic // in order of name
}

// Topic is one topic that was taken over.
type Topic struct {
	Name       string
	ID         [16]byte
	Partitions int
	Bytes      int64
	// Offsets is the number of offsets from the start to the end of all partitions, which is the number of records where nothing was
	// compacted and no transaction was ended.
	Offsets int64
}

// ErrAlready says that the directory is Moldau's already.
var ErrAlready = errors.New("it is a directory of Moldau already; start the server on it")

// taking is one takeover.
type taking struct {
	fs     vfs.FS
	dir    string
	o      Options
	files  *log.Files
	pool   *batch.Pool
	props  replica.Properties
	img    *controller.Image
	clean  bool
	report Report
	ends   []log.TopicOffset
}

// Run takes the directory over. Apache Kafka must not run on it. It may be repeated until it succeeds.
func Run(dir string, o Options) (Report, error) {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &taking{fs: o.FS, dir: dir, o: o, files: log.NewFiles(o.FS, 0), pool: batch.NewPool(1, 0)}
	if err := t.run(); err != nil {
		return t.report, fmt.Errorf("take over %s: %w", dir, err)
	}
	return t.report, nil
}

func (t *taking) run() error {
	if _, err := t.fs.Stat(filepath.Join(t.dir, replica.MetaFile)); err != nil {
		return err
	}
	lock, err := t.fs.Lock(filepath.Join(t.dir, replica.LockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return errors.New("it is in use by another process: stop that one first")
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := t.look(); err != nil || t.o.DryRun {
		return err
	}
	if err := t.logs(); err != nil {
		return err
	}
	return t.replaceMetadata()
}

// look reads what the directory says about itself and its topics.
func (t *taking) look() (err error) {
	if t.props, err = replica.ReadProperties(t.fs, t.dir); err != nil {
		return err
	}
	if t.props.Format > 0 {
		return ErrAlready
	}
	t.report.ClusterID, t.report.NodeID = t.props.ClusterID, t.props.NodeID
	if _, err := t.fs.Stat(filepath.Join(t.dir, replica.CleanFile)); err == nil {
		t.clean = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t.report.Clean = t.clean
	from := filepath.Join(t.dir, metadataDir)
	if kept := filepath.Join(t.dir, keptMetadata); exists(t.fs, kept) { // an earlier run came so far
		from = kept
	}
	if t.img, err = readMetadata(t.fs, from); err != nil {
		return err
	}
	return t.checkTopics()
}

func exists(fsys vfs.FS, name string) bool {
	_, err := fsys.Stat(name)
	return err == nil
}

// checkTopics checks that every partition is led by this node and has its directory.
func (t *taking) checkTopics() error {
	var missing, foreign []string
	for topic := range t.img.Topics() {
		out := Topic{Name: topic.Name, ID: topic.ID, Partitions: len(topic.Partitions)}
		for i, p := range topic.Partitions {
			name := partitionName(topic.Name, i)
			if !slices.Equal(p.Replicas, []int32{t.props.NodeID}) {
				foreign = append(foreign, fmt.Sprintf("%s on nodes %v", name, p.Replicas))
				continue
			}
			dir := filepath.Join(t.dir, name)
			id, ok := log.TopicIDIn(t.fs, dir)
			switch {
			case !exists(t.fs, dir):
				missing = append(missing, name)
				continue
			case !ok:
				return fmt.Errorf("%s has no readable partition.metadata: start Apache Kafka on the directory once and stop it properly", dir)
			case id != topic.ID:
				return fmt.Errorf("%s belongs to another topic of that name: start Apache Kafka on the directory once and stop it properly", dir)
			}
			size, err := t.size(dir)
			if err != nil {
				return err
			}
			out.Bytes += size
		}
		t.report.Topics = append(t.report.Topics, out)
	}
	if len(foreign) > 0 {
		return fmt.Errorf("%d partitions have other replicas than node %d, such as %s: move them to this node alone first (kafka-reassign-partitions.sh)",
			len(foreign), t.props.NodeID, foreign[0])
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d partitions are not in the directory, such as %s: if Kafka had several log.dirs, move the partitions into this one first",
			len(missing), missing[0])
	}
	return nil
}

func partitionName(topic string, partition int) string { return topic + "-" + strconv.Itoa(partition) }

// size is the bytes of the segments in a partition's directory.
func (t *taking) size(dir string) (n int64, err error) {
	names, err := t.fs.List(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			info, err := t.fs.Stat(filepath.Join(dir, name))
			if err != nil {
				return 0, err
			}
			n += info.Size
		}
	}
	return n, nil
}

// logs opens every partition as the server will, which recovers what Kafka did not close.
func (t *taking) logs() error {
	points, starts, cleaned, err := t.checkpoints()
	if err != nil {
		return err
	}
	// From here on an interrupted run leaves logs that are partly recovered.
	clean := filepath.Join(t.dir, replica.CleanFile)
	if err := t.fs.Remove(clean); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.fs.SyncDir(t.dir); err != nil {
		return err
	}
	for i := range t.report.Topics {
		out := &t.report.Topics[i]
		for n := range out.Partitions {
			k := log.TopicOffset{Topic: out.Name, Partition: int32(n)}
			l, _, err := log.Open(log.Options{
				FS: t.fs, Dir: filepath.Join(t.dir, partitionName(out.Name, n)), Topic: out.Name, Partition: int32(n), TopicID: out.ID,
				Config: log.DefaultConfig(), Clean: t.clean, Foreign: true, RecoveryPoint: points[k], LogStart: starts[k], Cleaned: cleaned[k],
				Files: t.files, Pool: t.pool, Logger: t.o.Logger,
			})
			if err != nil {
				return err
			}
			if err = l.Check(); err == nil && t.o.Verify {
				err = verify(l)
			}
			start, _, _, end := l.Offsets()
			if err := errors.Join(err, l.Close(true)); err != nil {
				return err
			}
			out.Offsets += end - start
			k.Offset = end
			if end > 0 {
				t.ends = append(t.ends, k)
			}
		}
	}
	return nil
}

// verify reads everything.
func verify(l *log.Log) error {
	for at := l.Start(); at < l.End(); {
		res, err := l.Read(at, 1<<20, log.ReadLogEnd, true)
		if err != nil {
			return err
		}
		if len(res.Records) == 0 {
			return nil // compaction left nothing up to the end
		}
		if _, err := batch.All(res.Records, func(b batch.Batch) bool { at = b.LastOffset() + 1; return true }); err != nil {
			return err
		}
	}
	return nil
}

// checkpoints reads Kafka's checkpoints, keyed by topic and partition.
func (t *taking) checkpoints() (points, starts, cleaned map[log.TopicOffset]int64, err error) {
	read := func(name string) map[log.TopicOffset]int64 {
		out := map[log.TopicOffset]int64{}
		data, rerr := vfs.ReadFile(t.fs, filepath.Join(t.dir, name), 256<<20)
		if errors.Is(rerr, fs.ErrNotExist) || rerr == nil && len(data) == 0 { // Kafka makes them empty
			return out
		}
		var rows []log.TopicOffset
		if rerr == nil {
			rows, rerr = log.DecodeOffsets(data)
		}
		if rerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, rerr))
		}
		for _, r := range rows {
			out[log.TopicOffset{Topic: r.Topic, Partition: r.Partition}] = r.Offset
		}
		return out
	}
	return read(replica.RecoveryPointFile), read(replica.LogStartFile), read(replica.CleanedFile), err
}

// replaceMetadata writes our metadata log, puts it in the place of Kafka's, and makes the directory ours.
func (t *taking) replaceMetadata() error {
	fresh, ours, kept := filepath.Join(t.dir, newMetadata), filepath.Join(t.dir, metadataDir), filepath.Join(t.dir, keptMetadata)
	if err := vfs.RemoveAll(t.fs, fresh); err != nil {
		return err
	}
	if err := t.writeMetadata(fresh); err != nil {
		return err
	}
	if !exists(t.fs, kept) {
		if err := t.fs.Rename(ours, kept); err != nil {
			return err
		}
		if err := t.fs.SyncDir(t.dir); err != nil {
			return err
		}
	}
	if err := vfs.RemoveAll(t.fs, ours); err != nil { // of an earlier run
		return err
	}
	if err := t.fs.Rename(fresh, ours); err != nil {
		return err
	}
	slices.SortFunc(t.ends, log.TopicOffset.Compare)
	if err := vfs.WriteFile(t.fs, t.dir, filepath.Join(t.dir, replica.RecoveryPointFile), log.EncodeOffsets(t.ends)); err != nil {
		return err
	}
	// Kafka makes some empty, which ours would complain about.
	for _, name := range []string{replica.LogStartFile, replica.CleanedFile} {
		path := filepath.Join(t.dir, name)
		if info, err := t.fs.Stat(path); err == nil && info.Size == 0 {
			if err := t.fs.Remove(path); err != nil {
				return err
			}
		}
	}
	if err := replica.WriteCleanMarker(t.fs, t.dir); err != nil {
		return err
	}
	return replica.WriteProperties(t.fs, t.dir, t.props)
}

func (t *taking) writeMetadata(dir string) error {
	b := batch.NewBuilder(batch.Options{})
	now := time.Now()
	recs, err := t.records()
	if err != nil {
		return err
	}
	for _, r := range recs {
		b.Add(batch.Record{Value: controller.Encode(nil, r), Timestamp: now.UnixMilli()})
	}
	built, err := b.Build()
	if err != nil {
		return fmt.Errorf("metadata log: %w", err)
	}
	cfg := log.DefaultConfig()
	cfg.SegmentBytes = int64(len(built)) + 1<<20
	l, _, err := log.Open(log.Options{
		FS: t.fs, Dir: dir, Topic: controller.MetadataTopic, TopicID: controller.MetadataTopicID, Config: cfg, Files: t.files, Pool: t.pool,
		Logger: t.o.Logger,
	})
	if err != nil {
		return err
	}
	_, last, err := l.AppendInternal(built, 0, now)
	if err := errors.Join(err, l.Close(true)); err != nil {
		return err
	}
	t.ends = append(t.ends, log.TopicOffset{Topic: controller.MetadataTopic, Offset: last + 1})
	return nil
}

// records are the image as records of a new metadata log.
func (t *taking) records() ([]controller.Record, error) {
	directory, err := t.props.DirectoryUUID()
	if err != nil {
		return nil, err
	}
	var recs []controller.Record
	supported := map[string]int16{}
	for _, f := range controller.SupportedFeatures() {
		supported[f.Name] = f.Max
	}
	for name, level := range t.img.Features() {
		if limit, ok := supported[name]; ok && name != controller.FeatureKRaft {
			recs = append(recs, &controller.FeatureLevelRecord{Name: name, Level: min(level, limit)})
		}
	}
	for topic := range t.img.Topics() {
		recs = append(recs, &controller.TopicRecord{Name: topic.Name, TopicID: topic.ID})
		recs = appendConfigs(recs, controller.ResourceTopic, topic.Name, topic.Configs)
		for i, p := range topic.Partitions {
			recs = append(recs, &controller.PartitionRecord{
				PartitionID: int32(i), TopicID: topic.ID, Replicas: []int32{t.props.NodeID}, ISR: []int32{t.props.NodeID},
				// Another broker leads from now on, as after any election.
				Leader: t.props.NodeID, LeaderEpoch: p.LeaderEpoch + 1, PartitionEpoch: p.PartitionEpoch + 1,
				Directories: []controller.TopicID{directory},
			})
		}
	}
	for _, typ := range []int8{controller.ResourceBroker, controller.ResourceClientMetrics, controller.ResourceGroup} {
		for name := range t.img.Resources(typ) {
			recs = appendConfigs(recs, typ, name, t.img.Configs(controller.Resource{Type: typ, Name: name}))
		}
	}
	for user, mechanisms := range t.img.ScramUsers() {
		for _, m := range slices.Sorted(maps.Keys(mechanisms)) {
			recs = append(recs, &controller.UserScramCredentialRecord{User: user, Mechanism: m, ScramCredential: mechanisms[m]})
		}
	}
	for entity, quotas := range t.img.Quotas() {
		for _, key := range slices.Sorted(maps.Keys(quotas)) {
			recs = append(recs, &controller.ClientQuotaRecord{Entity: entity, Key: key, Value: quotas[key]})
		}
	}
	if next := t.img.NextProducerID(); next > 0 {
		recs = append(recs, &controller.ProducerIDsRecord{BrokerID: t.props.NodeID, NextProducerID: next})
	}
	if len(recs) == 0 {
		recs = append(recs, &controller.NoOpRecord{})
	}
	return recs, nil
}

func appendConfigs(recs []controller.Record, typ int8, name string, configs map[string]string) []controller.Record {
	for _, key := range slices.Sorted(maps.Keys(configs)) {
		value := configs[key]
		recs = append(recs, &controller.ConfigRecord{ResourceType: typ, ResourceName: name, Name: key, Value: &value})
	}
	return recs
}
