package stream

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/task"
)

// limits are which records a topic takes, by its configuration. The cluster judges a batch, and refuses all of its records because
// of one, when other records of the commit are sent already. So each output is judged before it is sent: the policy
// can leave it out alone, and a transaction never has a refused batch.
type limits struct {
	bytes         int   // of a batch
	key           bool  // it takes no record without one
	before, after int64 // milliseconds that a record's time may differ from the clock
	newest        int64 // time that was allowed when somebody looked at the clock last, and is since
}

// unlimited is a topic of which nothing is known: the cluster judges.
func unlimited() *limits {
	return &limits{bytes: math.MaxInt, before: math.MaxInt64, after: math.MaxInt64}
}

// check is why the cluster would refuse a record, which takes size bytes at most; nil if it would take it.
func (l *limits) check(o *task.Out, size int, clock func() time.Time) error {
	var err error
	if l.key && o.Key == nil {
		err = kerr.InvalidRecord
	}
	if o.Timestamp > l.newest || l.before < math.MaxInt64 {
		now := clock().UnixMilli()
		l.newest = now + min(l.after, math.MaxInt64-now)
		if o.Timestamp > l.newest || now-o.Timestamp > l.before {
			err = fmt.Errorf("its time is %s: %w", time.UnixMilli(o.Timestamp).UTC().Format(time.RFC3339), kerr.InvalidTimestamp)
		}
	}
	if size > l.bytes {
		if size = batchSize(o); size > l.bytes {
			err = fmt.Errorf("it takes %d bytes, of %d: %w", size, l.bytes, kerr.MessageTooLarge)
		}
	}
	if err != nil {
		return fmt.Errorf("the topic takes no such record: %w%s", err, advice(err))
	}
	return nil
}

// batchSize is what a batch takes that has only this record.
func batchSize(o *task.Out) int {
	r := batch.Record{Key: o.Key, Value: o.Value}
	for _, h := range o.Headers {
		r.Headers = append(r.Headers, batch.Header(h))
	}
	return batch.SizeOf(r)
}

// limitsOf asks what a topic takes. A program that may not ask leaves the judgement to the cluster.
func (p *producer) limitsOf(topic string) (*limits, error) {
	var l *limits
	err := p.app.retry(p.app.hard, "ask for the configuration of topic "+topic, func(ctx context.Context) error {
		rs, err := kadm.NewClient(p.app.client).DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return err
		}
		r, err := rs.On(topic, nil)
		if err != nil {
			return err
		}
		if r.Err != nil {
			return r.Err
		}
		l = p.read(r.Configs)
		return nil
	})
	switch {
	case err == nil:
		p.batches.Store(topic, l.bytes)
		return l, nil
	case temporary(err) || p.app.hard.Err() != nil:
		return nil, &sendError{topic, -1, nil, err}
	}
	p.app.log.Info("what a topic takes is not known: the application stops when the cluster refuses a record", "topic", topic, "error", err)
	return unlimited(), nil
}

func (p *producer) read(configs []kadm.Config) *limits {
	c := make(map[string]string)
	for _, x := range configs {
		if x.Value != nil {
			c[x.Key] = *x.Value
		}
	}
	number := func(names ...string) int64 {
		for _, name := range names {
			if n, err := strconv.ParseInt(c[name], 10, 64); err == nil {
				return n
			}
		}
		return math.MaxInt64
	}
	l := unlimited()
	l.key = strings.Contains(c["cleanup.policy"], "compact")
	if c["message.timestamp.type"] != "LogAppendTime" {
		l.before = number("message.timestamp.before.max.ms", "message.timestamp.difference.max.ms")
		l.after = number("message.timestamp.after.max.ms", "message.timestamp.difference.max.ms")
	}
	if codecs, ok := p.cl.OptValue(kgo.ProducerBatchCompression).([]kgo.CompressionCodec); ok && len(codecs) > 0 && codecs[0] == kgo.NoCompression() {
		l.bytes = int(number("max.message.bytes")) // else nobody knows how small it becomes
	}
	return l
}

// batchBytes is how large the client may make the batches of a topic, for kgo.ProducerBatchMaxBytesFn: it asks when the first
// record is on its way.
func (p *producer) batchBytes(topic string) int32 {
	n := p.configured(topic)
	if limit, ok := p.batches.Load(topic); ok {
		const lengthOfBatch = 4 // which the client counts as well
		n = min(n, int32(min(max(limit.(int), 512), math.MaxInt32-lengthOfBatch))+lengthOfBatch)
	}
	return n
}
