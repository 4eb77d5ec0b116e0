package log

import (
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/batch"
)

// maxRecordErrors bounds how many bad records of one batch are listed, each with its own error.
const maxRecordErrors = 100_000

// validated is a batch that may be appended. release gives back what holds its bytes.
type validated struct {
	batch batch.Batch
	pool  *batch.Pool
	d     *batch.Decompressor
}

func (v validated) release() {
	if v.d != nil {
		v.pool.Put(v.d)
	}
}

// validate checks a produced batch in the order of Kafka's LogValidator, corrects its timestamps, and compresses it
// anew if the topic has another compression than the batch. It holds no lock.
func (l *Log) validate(p []byte, now int64) (v validated, err error) {
	cfg := l.Config()
	b := batch.Batch(p)
	if len(b) >= batch.HeaderLen && b.BaseOffset() != 0 {
		return v, l.invalid("base offset of a produced batch is %d, not 0", b.BaseOffset())
	}
	if int64(len(p)) > cfg.MaxMessageBytes {
		return v, codef(kerr.MessageTooLarge, "batch of %d bytes for %s exceeds max.message.bytes %d", len(p), l.name, cfg.MaxMessageBytes)
	}
	if err := b.CheckSum(); err != nil {
		return v, l.refuse(err)
	}
	if err := b.ValidateHeader(); err != nil {
		return v, l.refuse(err)
	}
	switch {
	case b.Control():
		return v, l.invalid("clients cannot write control batches")
	case b.ProducerID() >= 0 && b.BaseSequence() < 0:
		return v, l.invalid("producer %d sends no sequence number", b.ProducerID())
	}
	target := cfg.Compression.target(b.Codec())
	if b.Codec() != batch.None || target != b.Codec() {
		v.pool, v.d = l.o.Pool, l.decompressor()
	}
	payload, err := b.Payload(v.d)
	if err != nil {
		return v, l.refuse(err)
	}
	rules := recordRules{l: l, cfg: &cfg, now: now, appendTimeSet: b.LogAppendTime()}
	maxTS, err := b.ValidateRecords(payload, rules.check)
	if err != nil {
		return v, l.refuse(err)
	}
	if rules.bad != nil {
		return v, rules.refused()
	}
	if target != b.Codec() {
		if b, err = b.Recompress(nil, v.d.Compressor(), target, cfg.Compression.Level, payload); err != nil {
			return v, l.refuse(err)
		}
		if int64(len(b)) > cfg.MaxMessageBytes {
			return v, codef(kerr.MessageTooLarge, "batch for %s has %d bytes after it was compressed anew (compression.type), more than max.message.bytes %d",
				l.name, len(b), cfg.MaxMessageBytes)
		}
	}
	switch {
	case cfg.LogAppendTime:
		b.SetMaxTimestamp(now, true)
	case b.MaxTimestamp() != maxTS || b.LogAppendTime():
		b.SetMaxTimestamp(maxTS, false)
	}
	v.batch = b
	return v, nil
}

// decompressor takes a decompressor from the pool, with a limit of no less than the topic's largest message: a batch need not be
// compressed at all.
func (l *Log) decompressor() *batch.Decompressor {
	d := l.o.Pool.Get()
	d.Raise(int(min(l.maxMessage.Load(), math.MaxInt32)))
	return d
}

// recordRules are the rules for each record of a produced batch.
type recordRules struct {
	l             *Log
	cfg           *Config
	now           int64
	appendTimeSet bool // the batch says that its timestamps are of the append
	bad           *RecordErrors
	count         int
	noKey         string
}

func (r *recordRules) check(i int32, v *batch.View) {
	switch {
	case r.cfg.Compact && v.Key == nil:
		if r.noKey == "" {
			r.noKey = "the compacted topic " + r.l.o.Topic + " takes no record without key"
		}
		r.note(kerr.InvalidRecord, i, r.noKey)
	case !r.cfg.LogAppendTime && v.Timestamp != batch.NoTimestamp:
		// The differences wrap around as Kafka's do.
		if age := r.now - v.Timestamp; age > r.cfg.TimestampBeforeMaxMs || -age > r.cfg.TimestampAfterMaxMs {
			r.note(kerr.InvalidTimestamp, i, fmt.Sprintf("timestamp %d is out of the range [%d, %d]",
				v.Timestamp, r.now-r.cfg.TimestampBeforeMaxMs, r.now+r.cfg.TimestampAfterMaxMs))
		}
	case r.appendTimeSet:
		r.note(kerr.InvalidTimestamp, i, "a producer cannot set log append time")
	}
}

// note adds a bad record. Any bad timestamp makes that the error of the batch.
func (r *recordRules) note(code *kerr.Error, i int32, message string) {
	if r.bad == nil {
		r.bad = &RecordErrors{Code: code}
	}
	if code == kerr.InvalidTimestamp {
		r.bad.Code = code
	}
	r.count++
	if len(r.bad.Records) < maxRecordErrors {
		r.bad.Records = append(r.bad.Records, RecordError{Index: i, Message: message})
	}
}

func (r *recordRules) refused() error {
	r.bad.Message = fmt.Sprintf("records of the batch for %[2]s are invalid: %[1]d", r.count, r.l.name)
	return r.bad
}

func (l *Log) invalid(format string, args ...any) error {
	return &RecordErrors{Code: kerr.InvalidRecord, Message: fmt.Sprintf(format, args...) + " (for " + l.name + ")"}
}

// refuse gives a validation error its Kafka code. What does not decompress is UNKNOWN_SERVER_ERROR there.
func (l *Log) refuse(err error) error {
	var invalid *batch.InvalidError
	var compression *batch.CompressionError
	switch {
	case errors.As(err, &invalid):
		return &RecordErrors{Code: kerr.InvalidRecord, Message: fmt.Sprintf("%v (for %s)", err, l.name)}
	case errors.As(err, &compression):
		return codef(kerr.UnknownServerError, "batch for %s: %v", l.name, err)
	case errors.Is(err, batch.ErrTooLarge):
		return codef(kerr.MessageTooLarge, "batch for %s: %v", l.name, err)
	}
	return codef(kerr.CorruptMessage, "batch for %s: %v", l.name, err)
}
