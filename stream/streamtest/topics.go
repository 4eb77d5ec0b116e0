package streamtest

import (
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
)

// In writes records to an input topic of the topology.
type In[K, V any] struct {
	d          *Driver
	topic      string
	key        serde.Serde[K]
	value      serde.Serde[V]
	nullKey    func(K) bool
	nullValue  func(V) bool
	partitions int32
}

// Input returns the writing end of a topic that the topology reads. A topic that matches the pattern of a source, and is not there yet,
// is made, as if it appeared while the application runs: its source's tasks are committed and opened again, and there are more
// of them if it has more partitions than all others.
func Input[K, V any](d *Driver, t stream.Topic[K, V]) *In[K, V] {
	d.t.Helper()
	if err := d.appear(t.Name()); err != nil {
		d.t.Fatalf("streamtest: topic %s: %v", t.Name(), err)
	}
	l, ok := d.logs[t.Name()]
	if !ok || !d.reads(t.Name()) {
		d.t.Fatalf("streamtest: the topology does not read topic %s", t.Name())
	}
	return &In[K, V]{d: d, topic: t.Name(), key: t.KeySerde(), value: t.ValueSerde(),
		nullKey: serde.IsNull[K](), nullValue: serde.IsNull[V](), partitions: int32(len(l.partitions))}
}

// Send writes a record with the driver's time as its timestamp and processes it to the end.
func (in *In[K, V]) Send(k K, v V) {
	in.d.t.Helper()
	in.send(-1, stream.Record[K, V]{Key: k, Value: v})
}

// SendAt is Send with a timestamp.
func (in *In[K, V]) SendAt(at time.Time, k K, v V) {
	in.d.t.Helper()
	in.send(-1, stream.Record[K, V]{Key: k, Value: v, Time: at})
}

// SendRecord is Send with a timestamp and headers. The zero time stands for the driver's.
func (in *In[K, V]) SendRecord(r stream.Record[K, V]) {
	in.d.t.Helper()
	in.send(-1, r)
}

// SendTo is SendRecord to a partition of the caller's choice.
func (in *In[K, V]) SendTo(partition int, r stream.Record[K, V]) {
	in.d.t.Helper()
	if partition < 0 || int32(partition) >= in.partitions {
		in.d.t.Fatalf("streamtest: topic %s has no partition %d: it has %d", in.topic, partition, in.partitions)
	}
	in.send(int32(partition), r)
}

// TrySend is SendRecord that returns the error of a record that could not be processed instead of ending the test. After
// an error, what was not committed is gone and only Restart makes the driver go on, with the record that failed.
func (in *In[K, V]) TrySend(r stream.Record[K, V]) error {
	in.d.t.Helper()
	raw, err := in.encode(-1, r)
	if err != nil {
		return err
	}
	return in.d.send(raw)
}

func (in *In[K, V]) send(partition int32, r stream.Record[K, V]) {
	in.d.t.Helper()
	raw, err := in.encode(partition, r)
	if err == nil {
		err = in.d.send(raw)
	}
	if err != nil {
		in.d.t.Fatalf("streamtest: topic %s: %v", in.topic, err)
	}
}

func (in *In[K, V]) encode(partition int32, r stream.Record[K, V]) (Record, error) {
	raw := Record{Topic: in.topic, Partition: partition, Time: r.Time, Headers: r.Headers}
	if raw.Time.IsZero() {
		raw.Time = in.d.now
	}
	var err error
	if in.nullKey == nil || !in.nullKey(r.Key) {
		if raw.Key, raw.Headers, err = encode(in.key, r.Key, raw.Headers); err != nil {
			return raw, err
		}
	}
	if in.nullValue == nil || !in.nullValue(r.Value) {
		if raw.Value, raw.Headers, err = encode(in.value, r.Value, raw.Headers); err != nil {
			return raw, err
		}
	}
	return raw, nil
}

// Out reads the committed records of a topic, each once, in the order in which they were written. Each Out has a
// position of its own, at first the beginning of the topic.
type Out[K, V any] struct {
	d         *Driver
	topic     string
	partition int32 // -1: all
	next      int   // index into the records of the topic
	key       serde.Serde[K]
	value     serde.Serde[V]
	canNull   [2]bool // key, value
}

// Output returns the reading end of any topic: one that the topology writes, an internal one, the dead-letter topic, or
// an input.
func Output[K, V any](d *Driver, t stream.Topic[K, V]) *Out[K, V] {
	d.t.Helper()
	if d.routes {
		d.makeTopic(t.Name(), d.partitions(t.Name()))
	}
	if _, ok := d.logs[t.Name()]; !ok {
		d.t.Fatalf("streamtest: the topology neither reads nor writes topic %s", t.Name())
	}
	return &Out[K, V]{d: d, topic: t.Name(), partition: -1, key: t.KeySerde(), value: t.ValueSerde(),
		canNull: [2]bool{serde.IsNull[K]() != nil, serde.IsNull[V]() != nil}}
}

// Partition returns an Out for one partition of the topic, with a position of its own.
func (o *Out[K, V]) Partition(n int) *Out[K, V] {
	p := *o
	p.partition, p.next = int32(n), 0
	return &p
}

// Read returns the next record, and false if there is none.
func (o *Out[K, V]) Read() (r stream.Record[K, V], ok bool) {
	o.d.t.Helper()
	records := o.d.logs[o.topic].records
	for o.next < len(records) {
		raw := records[o.next]
		o.next++
		if o.partition < 0 || o.partition == raw.Partition {
			return o.decode(raw), true
		}
	}
	return r, false
}

// Drain returns all records that were not yet read; nil if there are none.
func (o *Out[K, V]) Drain() []stream.Record[K, V] {
	o.d.t.Helper()
	var all []stream.Record[K, V]
	for {
		r, ok := o.Read()
		if !ok {
			return all
		}
		all = append(all, r)
	}
}

func (o *Out[K, V]) decode(raw Record) stream.Record[K, V] {
	o.d.t.Helper()
	r := stream.Record[K, V]{Time: raw.Time, Headers: raw.Headers}
	var err error
	if raw.Key != nil {
		r.Key, err = decode(o.key, raw.Key, raw.Headers)
	}
	if err == nil && raw.Value != nil {
		r.Value, err = decode(o.value, raw.Value, raw.Headers)
	}
	switch {
	case err != nil:
		o.d.t.Fatalf("streamtest: topic %s, partition %d, offset %d: %v", raw.Topic, raw.Partition, raw.Offset, err)
	case raw.Key == nil && !o.canNull[0]:
		o.d.t.Fatalf("streamtest: topic %s, partition %d, offset %d has a null key, which %T cannot show: read it with serde.Nullable", raw.Topic, raw.Partition, raw.Offset, r.Key)
	case raw.Value == nil && !o.canNull[1]:
		o.d.t.Fatalf("streamtest: topic %s, partition %d, offset %d has a null value, which %T cannot show: read it with serde.Nullable", raw.Topic, raw.Partition, raw.Offset, r.Value)
	}
	return r
}

func encode[T any](s serde.Serde[T], v T, headers []stream.Header) ([]byte, []stream.Header, error) {
	if h, ok := s.(serde.WithHeaders[T]); ok {
		return h.AppendWithHeaders([]byte{}, v, headers[:len(headers):len(headers)])
	}
	b, err := s.Append([]byte{}, v)
	return b, headers, err
}

func decode[T any](s serde.Serde[T], b []byte, headers []stream.Header) (T, error) {
	if h, ok := s.(serde.WithHeaders[T]); ok {
		return h.DecodeWithHeaders(b, headers)
	}
	return s.Decode(b)
}

// Record is a record of a topic as bytes. A nil Key or Value is a null.
type Record struct {
	Topic      string
	Partition  int32
	Offset     int64
	Time       time.Time
	Key, Value []byte
	Headers    []stream.Header

	sequence int64 // order among the records of all topics
}

// Records returns everything that is committed in a topic, internal ones included, in the order in which it was written.
func (d *Driver) Records(topic string) []Record {
	d.t.Helper()
	l, ok := d.logs[topic]
	if !ok {
		d.t.Fatalf("streamtest: there is no topic %s", topic)
	}
	return append([]Record(nil), l.records...)
}

// topicLog is a topic: its committed records.
type topicLog struct {
	records    []Record
	partitions [][]int // by partition and offset: index into records
	keyless    int32   // partition of the next record without a key
}
