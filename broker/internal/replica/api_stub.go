package replica

import (
	"log/slog"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

type Config struct {
	Durability Durability
	Fatal      func(error)
}

type Manager struct{}

func Open(fs vfs.FS, dir string, cfg Config, now func() time.Time, logger *slog.Logger) (*Manager, error) {
	panic("stub")
}
func (m *Manager) CreatePartition(topic string, topicID [16]byte, partition int32, cfg log.Config, leaderEpoch int32) (*Partition, error) {
	panic("stub")
}
func (m *Manager) DeletePartition(topic string, partition int32) error        { panic("stub") }
func (m *Manager) Partition(topic string, partition int32) (*Partition, bool) { panic("stub") }
func (m *Manager) Partitions(f func(*Partition) bool)                         { panic("stub") }
func (m *Manager) Unclaimed() ([]string, error)                               { panic("stub") }
func (m *Manager) ClusterID() string                                          { panic("stub") }
func (m *Manager) Close() error                                               { panic("stub") }

type Partition struct{}

func (p *Partition) Topic() string                                          { panic("stub") }
func (p *Partition) TopicID() [16]byte                                      { panic("stub") }
func (p *Partition) ID() int32                                              { panic("stub") }
func (p *Partition) Config() log.Config                                     { panic("stub") }
func (p *Partition) SetConfig(log.Config)                                   { panic("stub") }
func (p *Partition) Append(b []byte, o AppendOptions) (AppendResult, error) { panic("stub") }
func (p *Partition) AppendInternal(now time.Time, recs []batch.Record, tx *batch.Producer) (base, last int64, err error) {
	panic("stub")
}
func (p *Partition) AppendMarker(now time.Time, producerID int64, epoch int16, commit bool, coordinatorEpoch int32) (offset int64, err error) {
	panic("stub")
}
func (p *Partition) StartVerification(producerID int64, epoch int16) (g Guard, needed bool) {
	panic("stub")
}
func (p *Partition) OnCommitted(offset int64, done func(error)) { panic("stub") }
func (p *Partition) Read(offset int64, maxBytes int32, iso Isolation, minOne bool) (ReadResult, error) {
	panic("stub")
}
func (p *Partition) OnReadable(offset int64, iso Isolation, f func()) (cancel func()) { panic("stub") }
func (p *Partition) HighWatermark() int64                                             { panic("stub") }
func (p *Partition) LastStableOffset() int64                                          { panic("stub") }
func (p *Partition) LogStartOffset() int64                                            { panic("stub") }
func (p *Partition) LogEndOffset() int64                                              { panic("stub") }
func (p *Partition) LeaderEpoch() int32                                               { panic("stub") }
func (p *Partition) OffsetForTime(ts int64) (TimestampOffset, bool, error)            { panic("stub") }
func (p *Partition) MaxTimestampOffset() (TimestampOffset, bool, error)               { panic("stub") }
func (p *Partition) EndOffsetForEpoch(epoch int32) EpochEnd                           { panic("stub") }
func (p *Partition) DeleteRecords(upTo int64) (logStart int64, err error)             { panic("stub") }
func (p *Partition) Producer(id int64) (epoch int16, openTxn bool, ok bool)           { panic("stub") }
func (p *Partition) Producers() []ProducerState                                       { panic("stub") }
