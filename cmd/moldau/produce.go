package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxMessage bounds one message that is read from stdin or a file: the largest that a cluster can be configured for
// is far below it, and a missing delimiter must not fill the memory.
const maxMessage = 64 << 20

type produceFlags struct {
	connection
	topic     string
	partition int32
	key       string
	keyDelim  string
	delim     string
	headers   []string
	emptyNull bool
	lines     bool
	create    bool
	count     int64
	codec     string
	acks      string
	maxBytes  int32
	at        string
}

func (p process) produceCommand() *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use:   "produce -t TOPIC [FILE...]",
		Short: "Write stdin's lines to a topic, or each file as one record",
		Long: `Write stdin's lines to a topic, or each FILE as one record (with --lines, each line of each file).

  printf 'a:1\nb:2\n' | moldau produce -t numbers -K :
  moldau produce -t images -k logo logo.png

It returns when the cluster has acknowledged every record, and fails if one could not be written.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			return p.produce(cmd.Context(), &f, cmd.Flags().Changed("key"), files)
		},
	}
	fl := cmd.Flags()
	f.register(fl)
	fl.StringVarP(&f.topic, "topic", "t", "", "topic to write to")
	fl.Int32VarP(&f.partition, "partition", "p", -1, "partition to write to; -1: by hash of the key, as Kafka does")
	fl.StringVarP(&f.key, "key", "k", "", "key of every record")
	fl.StringVarP(&f.keyDelim, "key-delimiter", "K", "", "text that separates key and value in each message; escapes \\t \\n \\xHH")
	fl.StringVarP(&f.delim, "delimiter", "D", `\n`, "text that separates messages; empty: the whole input is one message")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "NAME=VALUE for every record; NAME alone has a null value; repeatable")
	fl.BoolVarP(&f.emptyNull, "null", "Z", false, "write empty keys and values as null")
	fl.BoolVarP(&f.lines, "lines", "l", false, "split files into messages, as stdin is")
	fl.BoolVar(&f.create, "create", false, "create the topic with the cluster's defaults if it doesn't exist")
	fl.Int64VarP(&f.count, "count", "c", 0, "stop after this many records")
	fl.StringVarP(&f.codec, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	fl.StringVar(&f.acks, "acks", "all", "all: wait for every in-sync replica; 1: for the leader; 0: for nobody")
	fl.StringVar(&f.at, "timestamp", "", "time of every record, in ms since 1970 or as RFC 3339; default: now")
	fl.Int32Var(&f.maxBytes, "max-message-bytes", 1_000_000, "largest batch to send; the topic's max.message.bytes must allow it")
	return cmd
}

func (f *produceFlags) producerOptions() ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.UnknownTopicRetries(20),
		kgo.ProducerBatchMaxBytes(f.maxBytes),
		kgo.MaxBufferedBytes(2 * maxMessage),
	}
	if f.maxBytes < 1024 || f.maxBytes > maxMessage {
		return nil, usagef("--max-message-bytes %d must be from 1024 to %d", f.maxBytes, maxMessage)
	}
	if f.at == "" { // the client counts from the record's timestamp
		opts = append(opts, kgo.RecordDeliveryTimeout(max(f.timeout, time.Second))) // its lower limit
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[f.codec]
	if !ok {
		return nil, usagef("--compression %q is not one of none, gzip, snappy, lz4, zstd", f.codec)
	}
	opts = append(opts, kgo.ProducerBatchCompression(codec))
	switch f.acks {
	case "all", "-1":
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, usagef("--acks %q is not one of all, 1, 0", f.acks)
	}
	if f.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if f.create {
		opts = append(opts, kgo.AllowAutoTopicCreation())
	}
	return opts, nil
}

func (p process) produce(ctx context.Context, f *produceFlags, withKey bool, files []string) error {
	if f.topic == "" {
		return usagef("--topic is missing")
	}
	if withKey && f.keyDelim != "" {
		return usagef("--key and --key-delimiter exclude each other")
	}
	keyDelim, err := unescape(f.keyDelim)
	if err != nil {
		return usagef("--key-delimiter: %w", err)
	}
	delim, err := unescape(f.delim)
	if err != nil {
		return usagef("--delimiter: %w", err)
	}
	headers, err := parseHeaders(f.headers)
	if err != nil {
		return err
	}
	at, err := parseTimestamp(f.at)
	if err != nil {
		return err
	}
	opts, err := f.producerOptions()
	if err != nil {
		return err
	}
	// Every file is opened before the first record is written: a misspelt name must not leave half of the input behind.
	inputs, closeInputs, err := p.inputs(files)
	defer closeInputs()
	if err != nil {
		return err
	}
	client, err := p.connect(ctx, &f.connection, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := f.checkTopic(ctx, client); err != nil {
		return err
	}

	d := delivery{topic: f.topic, timeout: max(f.timeout, time.Second)}
	for _, in := range inputs {
		split := delim
		if len(files) > 0 && !f.lines {
			split = ""
		}
		err := messages(in, []byte(split), func(m []byte) error {
			if f.count > 0 && d.sent == f.count {
				return io.EOF
			}
			if d.failed() || ctx.Err() != nil {
				return io.EOF
			}
			r := &kgo.Record{Topic: f.topic, Partition: f.partition, Headers: headers, Timestamp: at}
			r.Key, r.Value = f.split(m, keyDelim, withKey)
			d.sent++
			if f.at == "" {
				client.Produce(ctx, r, d.done)
				return nil
			}
			limited, cancel := context.WithTimeoutCause(ctx, d.timeout, kgo.ErrRecordTimeout)
			client.Produce(limited, r, func(r *kgo.Record, err error) {
				if err != nil && ctx.Err() == nil && limited.Err() != nil {
					err = context.Cause(limited)
				}
				cancel()
				d.done(r, err)
			})
			return nil
		})
		if err != nil {
			d.read = err
			break
		}
	}
	if err := client.Flush(ctx); err != nil {
		client.AbortBufferedRecords(context.WithoutCancel(ctx))
	}
	return d.err()
}

// parseTimestamp is the zero time, for which the client takes the present, if there is no text.
func parseTimestamp(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms >= 0 {
		return time.UnixMilli(ms), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("--timestamp %q is neither milliseconds since 1970 nor a time such as 2026-11-21T08:00:00Z", text)
	}
	return at, nil
}

// split makes key and value of one message.
func (f *produceFlags) split(m []byte, keyDelim string, withKey bool) (key, value []byte) {
	value = m
	switch {
	case withKey:
		key = []byte(f.key)
	case keyDelim != "":
		if k, v, ok := bytes.Cut(m, []byte(keyDelim)); ok {
			key, value = k, v
		}
	}
	if f.emptyNull {
		if len(key) == 0 {
			key = nil
		}
		if len(value) == 0 {
			value = nil
		}
	}
	return key, value
}

// checkTopic finds out before reading any input that the topic or the partition doesn't exist.
func (f *produceFlags) checkTopic(ctx context.Context, client *kgo.Client) error {
	if f.create {
		return nil
	}
	topics, err := topicsOf(ctx, client, &f.connection, f.topic)
	if err != nil {
		return err
	}
	if n := len(topics[f.topic].Partitions); int(f.partition) >= n {
		return fmt.Errorf("topic %s has no partition %d: it has %d, from 0", f.topic, f.partition, n)
	}
	return nil
}

// delivery counts what became of the records. Its mutex guards lost and first: the client calls done from its own
// goroutines.
type delivery struct {
	topic   string
	timeout time.Duration
	sent    int64
	read    error // what ended the reading of the input

	mu    sync.Mutex
	lost  int64
	first error
}

func (d *delivery) done(_ *kgo.Record, err error) {
	if err == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost++
	if d.first == nil {
		d.first = err
	}
}

func (d *delivery) failed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first != nil
}

func (d *delivery) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first != nil {
		if errors.Is(d.first, kgo.ErrRecordTimeout) {
			d.first = fmt.Errorf("the cluster did not take them for %s: if it is there, its log says why (a full disk?)", d.timeout)
		}
		if errors.Is(d.first, kerr.MessageTooLarge) {
			d.first = fmt.Errorf("%w; a record must fit into --max-message-bytes and the topic's max.message.bytes", d.first)
		}
		return errors.Join(fmt.Errorf("topic %s: %d of %d records were not written: %w", d.topic, d.lost, d.sent, d.first), d.read)
	}
	return d.read
}

// inputs opens the files, or gives stdin when there are none.
func (p process) inputs(files []string) (readers []io.Reader, closeAll func(), err error) {
	var open []*os.File
	closeAll = func() {
		for _, f := range open {
			_ = f.Close() // only read
		}
	}
	if len(files) == 0 {
		return []io.Reader{p.stdin}, closeAll, nil
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, closeAll, fmt.Errorf("%w; each argument is a file to write", err)
		}
		open = append(open, f)
		readers = append(readers, f)
	}
	return readers, closeAll, nil
}

// messages calls yield with each part of the input between delimiters. An empty delimiter means one message. The last
// message needs no delimiter. Each is a slice of its own. io.EOF from yield ends the reading without error.
func messages(in io.Reader, delim []byte, yield func([]byte) error) error {
	if len(delim) == 0 {
		all, err := io.ReadAll(io.LimitReader(in, maxMessage+1))
		if err != nil {
			return fmt.Errorf("read the input: %w", err)
		}
		if len(all) > maxMessage {
			return fmt.Errorf("the input is larger than %d MiB, too large for one record", maxMessage>>20)
		}
		if err := yield(all); err != nil && err != io.EOF {
			return err
		}
		return nil
	}
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 64<<10), maxMessage)
	s.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.Index(data, delim); i >= 0 {
			return i + len(delim), data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	n := 0
	for s.Scan() {
		n++
		// Never nil: an empty message is an empty value, not a null.
		if err := yield(append([]byte{}, s.Bytes()...)); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("message %d of the input is larger than %d MiB; is the delimiter %q right?", n+1, maxMessage>>20, delim)
	} else if err != nil {
		return fmt.Errorf("read message %d of the input: %w", n+1, err)
	}
	return nil
}

func parseHeaders(pairs []string) ([]kgo.RecordHeader, error) {
	var headers []kgo.RecordHeader
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if name == "" {
			return nil, usagef("--header %q is not NAME=VALUE", pair)
		}
		h := kgo.RecordHeader{Key: name}
		if ok {
			h.Value = []byte(value)
		}
		headers = append(headers, h)
	}
	return headers, nil
}
