package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeFlags struct {
	connection
	topic         string
	partitions    []int32
	offset        string
	fromBeginning bool
	count         int64
	exitAtEnd     bool
	format        string
	keyDelim      string
	delim         string
	showNull      bool
	headers       bool
	isolation     string
	keyAs         string
	valueAs       string
	asJSON        bool
}

func (p process) consumeCommand() *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use:   "consume -t TOPIC",
		Short: "Print the records of a topic",
		Long: `Print the records of a topic, by default the values of new records, one a line, until it is told to stop.

  moldau consume -t word-counts --from-beginning -e -f '%k %v\n' --value-as int64
  moldau consume -t events -p 0 -o -10 -c 10 -f '%p:%o %T %k=%v\n'

--format knows
  %k key   %v value (also %s)   %t topic   %p partition   %o offset   %T timestamp (ms)   %h headers (a=1,b=2)
  %K and %V (also %S) the length of key and value, -1 for null   %R the value's length as 4 bytes   %% a per cent sign
  \n \r \t \0 \xHH`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.consume(cmd.Context(), &f) },
	}
	fl := cmd.Flags()
	f.register(fl)
	fl.StringVarP(&f.topic, "topic", "t", "", "topic to read")
	fl.Int32SliceVarP(&f.partitions, "partition", "p", nil, "partitions to read, separated by commas; default: all")
	fl.StringVarP(&f.offset, "offset", "o", "end",
		"where to begin: beginning, end, an offset, -N for the last N offsets of each partition (a transaction's end takes one, too), s@MS for the first record at or after a time in ms; e@MS ends before that time")
	fl.BoolVar(&f.fromBeginning, "from-beginning", false, "the same as --offset beginning")
	fl.Int64VarP(&f.count, "count", "c", 0, "stop after this many records")
	fl.BoolVarP(&f.exitAtEnd, "exit", "e", false, "stop at what is the end of the topic now")
	fl.StringVarP(&f.format, "format", "f", "", "what to print of a record; it replaces -K and -D")
	fl.StringVarP(&f.keyDelim, "key-delimiter", "K", "", "print the key and this before the value")
	fl.StringVarP(&f.delim, "delimiter", "D", `\n`, "print this after each record")
	fl.BoolVarP(&f.showNull, "null", "Z", false, "print NULL for null keys and values; default: nothing")
	fl.BoolVarP(&f.headers, "headers", "H", false, "print the headers before key and value")
	fl.StringVar(&f.isolation, "isolation", "read_committed", "read_committed: only records of committed transactions; read_uncommitted: all")
	fl.StringVar(&f.keyAs, "key-as", "raw", "print keys as "+decoderNames)
	fl.StringVar(&f.valueAs, "value-as", "raw", "print values as "+decoderNames)
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object a record: topic, partition, offset, timestamp, key, value, headers; bytes that are no text as {\"base64\": ...}")
	return cmd
}

// compile makes the format of the flags.
func (f *consumeFlags) compile() (format, error) {
	key, err := decoderOf(f.keyAs)
	if err != nil {
		return nil, usagef("--key-as: %w", err)
	}
	value, err := decoderOf(f.valueAs)
	if err != nil {
		return nil, usagef("--value-as: %w", err)
	}
	if f.asJSON {
		if f.format != "" || f.keyDelim != "" || f.headers {
			return nil, usagef("--json excludes --format, --key-delimiter and --headers")
		}
		return jsonFormat(key, value), nil
	}
	null := ""
	if f.showNull {
		null = "NULL"
	}
	text := f.format
	if text == "" {
		text = "%v" + strings.ReplaceAll(f.delim, "%", "%%")
		if f.keyDelim != "" {
			text = "%k" + strings.ReplaceAll(f.keyDelim, "%", "%%") + text
		}
		if f.headers {
			text = `%h\t` + text
		}
	}
	compiled, err := compileFormat(text, key, value, null)
	if err != nil {
		return nil, usagef("--format: %w", err)
	}
	return compiled, nil
}

func (p process) consume(ctx context.Context, f *consumeFlags) error {
	if f.topic == "" {
		return usagef("--topic is missing")
	}
	if f.fromBeginning {
		f.offset = "beginning"
	}
	from, err := parseOffset(f.offset)
	if err != nil {
		return usagef("--offset: %w", err)
	}
	print, err := f.compile()
	if err != nil {
		return err
	}
	isolation, ok := map[string]kgo.IsolationLevel{
		"read_committed": kgo.ReadCommitted(), "read_uncommitted": kgo.ReadUncommitted(),
	}[f.isolation]
	if !ok {
		return usagef("--isolation %q is not read_committed or read_uncommitted", f.isolation)
	}
	client, err := p.connect(ctx, &f.connection,
		kgo.FetchIsolationLevel(isolation),
		// Markers are not printed, but the end of a topic can be one.
		kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// Else the client would retry a partition that cannot be read in silence.
		kgo.KeepRetryableFetchErrors(),
		kgo.FetchMaxWait(500*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	spans, err := f.spans(ctx, client, from)
	if err != nil {
		return err
	}
	r := reading{flags: f, print: print, stderr: p.stderr, out: bufio.NewWriterSize(p.stdout, 64<<10), open: spans}
	err = r.run(ctx, client)
	return errors.Join(err, r.out.Flush())
}

// span is what to read of a partition: from next, until end when there is one (exclusive, else -1).
type span struct{ next, end int64 }

// spans finds where each partition begins and, with --exit or e@, ends.
func (f *consumeFlags) spans(ctx context.Context, client *kgo.Client, from startOffset) (map[int32]span, error) {
	topics, err := topicsOf(ctx, client, &f.connection, f.topic)
	if err != nil {
		return nil, err
	}
	all := partitionsOf(topics[f.topic])
	chosen := f.partitions
	if len(chosen) == 0 {
		chosen = all
	}
	for _, n := range chosen {
		if !slices.Contains(all, n) {
			return nil, fmt.Errorf("topic %s has no partition %d: it has %d, from 0", f.topic, n, len(all))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	admin := kadm.NewClient(client)
	list := func(what string, ask func(context.Context, ...string) (kadm.ListedOffsets, error)) (kadm.ListedOffsets, error) {
		listed, err := ask(ctx, f.topic)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("topic %s: list %s offsets: %w", f.topic, what, err)
		}
		return listed, nil
	}
	starts, err := list("start", admin.ListStartOffsets)
	if err != nil {
		return nil, err
	}
	ask := admin.ListCommittedOffsets
	if f.isolation == "read_uncommitted" {
		ask = admin.ListEndOffsets
	}
	ends, err := list("end", ask)
	if err != nil {
		return nil, err
	}
	var after, before kadm.ListedOffsets
	if from.since >= 0 {
		after, err = list("time", func(ctx context.Context, t ...string) (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(ctx, from.since, t...)
		})
		if err != nil {
			return nil, err
		}
	}
	if from.until >= 0 {
		before, err = list("time", func(ctx context.Context, t ...string) (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(ctx, from.until, t...)
		})
		if err != nil {
			return nil, err
		}
	}
	spans := make(map[int32]span, len(chosen))
	for _, n := range chosen {
		start, end := starts[f.topic][n].Offset, ends[f.topic][n].Offset
		s := span{next: end, end: -1}
		switch {
		case from.since >= 0:
			s.next = min(after[f.topic][n].Offset, end)
		case from.beginning:
			s.next = start
		case from.last > 0:
			s.next = max(start, end-from.last)
		case from.absolute >= 0:
			if from.absolute < start || from.absolute > end {
				return nil, fmt.Errorf("topic %s, partition %d: offset %d is out of range: the partition holds %d up to %d; --from-beginning reads all of it",
					f.topic, n, from.absolute, start, end)
			}
			s.next = from.absolute
		}
		if f.exitAtEnd {
			s.end = end
		}
		if from.until >= 0 {
			s.end = min(before[f.topic][n].Offset, end)
		}
		spans[n] = s
	}
	return spans, nil
}

// startOffset is a parsed --offset; negative fields don't apply.
type startOffset struct {
	beginning    bool
	last         int64
	absolute     int64
	since, until int64 // ms
}

func parseOffset(s string) (startOffset, error) {
	o := startOffset{last: -1, absolute: -1, since: -1, until: -1}
	for part := range strings.SplitSeq(s, ",") {
		if ms, ok := strings.CutPrefix(part, "s@"); ok {
			n, err := strconv.ParseInt(ms, 10, 64)
			if err != nil || n < 0 {
				return o, fmt.Errorf("%q: s@ needs a time in milliseconds since 1970", part)
			}
			o.since = n
			continue
		}
		if ms, ok := strings.CutPrefix(part, "e@"); ok {
			n, err := strconv.ParseInt(ms, 10, 64)
			if err != nil || n < 0 {
				return o, fmt.Errorf("%q: e@ needs a time in milliseconds since 1970", part)
			}
			o.until = n
			// An end alone means from the beginning up to there.
			o.beginning = o.since < 0
			continue
		}
		switch n, err := strconv.ParseInt(part, 10, 64); {
		case part == "beginning" || part == "earliest" || part == "start":
			o.beginning = true
		case part == "end" || part == "latest":
		case err != nil:
			return o, fmt.Errorf("%q is not beginning, end, a number, s@MS or e@MS", part)
		case n < 0:
			o.last = -n
		default:
			o.absolute = n
		}
	}
	return o, nil
}

// reading prints records until it is told to stop, has printed enough, or is at every partition's end.
type reading struct {
	flags   *consumeFlags
	print   format
	out     *bufio.Writer
	open    map[int32]span // partitions not yet at their end
	printed int64
	line    []byte
	stderr  io.Writer
	trouble error // the last that may be gone at the next try
}

func (r *reading) run(ctx context.Context, client *kgo.Client) error {
	starts := map[int32]kgo.Offset{}
	for n, s := range r.open {
		if s.end >= 0 && s.next >= s.end {
			delete(r.open, n)
			continue
		}
		starts[n] = kgo.NewOffset().At(s.next)
	}
	if len(starts) == 0 {
		return nil
	}
	lastRecord := time.Now()
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.flags.topic: starts})
	for len(r.open) > 0 {
		polled, cancel := ctx, context.CancelFunc(func() {})
		if r.bounded() {
			polled, cancel = context.WithTimeout(ctx, r.flags.timeout)
		}
		fetches := client.PollFetches(polled)
		expired := polled.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return nil // told to stop
		}
		if expired {
			return r.stuck()
		}
		failed := fetches.Errors()
		for _, e := range failed {
			err := fmt.Errorf("topic %s, partition %d: %w", e.Topic, e.Partition, e.Err)
			if !temporary(e.Err) {
				return errors.Join(r.records(fetches), err)
			}
			r.complain(err)
		}
		if fetches.NumRecords() > 0 {
			lastRecord = time.Now()
		}
		if err := r.records(fetches); err != nil {
			return err
		}
		if r.flags.count > 0 && r.printed == r.flags.count {
			return nil
		}
		if len(failed) > 0 {
			if r.bounded() && time.Since(lastRecord) > r.flags.timeout {
				return r.stuck()
			}
			// The client asks again at once.
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}
		// Whoever reads a pipe should not wait for the next record to see this one.
		if err := r.out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// records prints what was fetched.
func (r *reading) records(fetches kgo.Fetches) error {
	for it := fetches.RecordIter(); !it.Done(); {
		if done, err := r.record(it.Next()); done || err != nil {
			return err
		}
	}
	return nil
}

// complain tells once what the client tries again.
func (r *reading) complain(err error) {
	if r.trouble == nil || r.trouble.Error() != err.Error() {
		fmt.Fprintf(r.stderr, "%s; trying again\n", oneLine(err.Error()))
	}
	r.trouble = err
}

// temporary tells whether what the fetch of a partition brought may be gone at the next try.
func temporary(err error) bool { return kerr.IsRetriable(err) && !errors.Is(err, kerr.UnknownTopicID) }

// bounded tells whether every partition that is still open has an end, so that silence is a failure.
func (r *reading) bounded() bool {
	for _, s := range r.open {
		if s.end < 0 {
			return false
		}
	}
	return true
}

// record prints one record; done when the last one that was asked for is printed.
func (r *reading) record(rec *kgo.Record) (done bool, err error) {
	s, ok := r.open[rec.Partition]
	if !ok {
		return false, nil
	}
	if s.end >= 0 && rec.Offset >= s.end {
		delete(r.open, rec.Partition)
		return len(r.open) == 0, nil
	}
	s.next = rec.Offset + 1
	r.open[rec.Partition] = s
	if s.end >= 0 && s.next >= s.end {
		delete(r.open, rec.Partition)
	}
	if !rec.Attrs.IsControl() {
		if r.line, err = r.print.append(r.line[:0], rec); err != nil {
			return false, err
		}
		if _, err := r.out.Write(r.line); err != nil {
			return false, err
		}
		r.printed++
	}
	return len(r.open) == 0 || r.flags.count > 0 && r.printed == r.flags.count, nil
}

func (r *reading) stuck() error {
	var where []string
	for n, s := range r.open {
		where = append(where, fmt.Sprintf("partition %d is at offset %d of %d", n, s.next, s.end))
	}
	slices.Sort(where)
	next := "is the broker still there?"
	if r.trouble != nil {
		next = fmt.Sprintf("the last error was: %v; the broker's log says more", r.trouble)
	}
	return fmt.Errorf("topic %s: nothing came for %s: %s; %s", r.flags.topic, r.flags.timeout, strings.Join(where, ", "), next)
}
