// Command interop is franz-go's part of .ci/interop: it writes the records that Java's console consumer is to read, and
// prints records as that prints them, so that the script compares texts.
//
//	interop write ADDR TOPIC              six plain records, three of a committed, three of an aborted transaction, one plain
//	interop read ADDR TOPIC N [GROUP]     N records at read_committed; with GROUP as its member, commits behind them
//
// A record is a line: headers, TAB, key, TAB, value; null is NULL and no headers are NO_HEADERS.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// patience bounds a whole run: a record that never comes is a failure, not a wait.
const patience = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	switch {
	case len(args) == 3 && args[0] == "write":
		return write(ctx, args[1], args[2])
	case (len(args) == 4 || len(args) == 5) && args[0] == "read":
		n, err := strconv.Atoi(args[3])
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a number of records", args[3])
		}
		return read(ctx, args[1], args[2], n, args[4:], stdout)
	}
	return fmt.Errorf("usage: interop write ADDR TOPIC | interop read ADDR TOPIC N [GROUP]")
}

// record makes one whose key and value are null where they are nil.
func record(key, value []byte, headers ...kgo.RecordHeader) *kgo.Record {
	return &kgo.Record{Key: key, Value: value, Headers: headers}
}

func header(key string, value []byte) kgo.RecordHeader {
	return kgo.RecordHeader{Key: key, Value: value}
}

// every way in which null, empty and filled fields can meet.
func records(prefix string) []*kgo.Record {
	return []*kgo.Record{
		record([]byte(prefix+"-full"), []byte("value"), header("a", []byte("1")), header("b", []byte("2"))),
		record([]byte(prefix+"-tombstone"), nil),
		record([]byte(prefix+"-empty"), []byte{}, header("empty", []byte{}), header("null", nil)),
		record(nil, []byte(prefix+"-without-key")),
		record([]byte{}, []byte(prefix+"-empty-key")),
		record([]byte(prefix+"-utf8"), []byte("žluťoučký kůň"), header("ř", []byte("š"))),
	}
}

func write(ctx context.Context, addr, topic string) error {
	plain, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer plain.Close()
	if err := plain.ProduceSync(ctx, records("plain")...).FirstErr(); err != nil {
		return fmt.Errorf("write plain records to topic %s: %w", topic, err)
	}
	txn, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.TransactionalID(topic+"-txn"),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		return err
	}
	defer txn.Close()
	for _, t := range []struct {
		prefix string
		end    kgo.TransactionEndTry
	}{{"committed", kgo.TryCommit}, {"aborted", kgo.TryAbort}} {
		if err := txn.BeginTransaction(); err != nil {
			return err
		}
		if err := txn.ProduceSync(ctx, records(t.prefix)[:3]...).FirstErr(); err != nil {
			return fmt.Errorf("write %s records to topic %s: %w", t.prefix, topic, err)
		}
		if err := txn.EndTransaction(ctx, t.end); err != nil {
			return fmt.Errorf("end the transaction of %s records: %w", t.prefix, err)
		}
	}
	// A record behind the aborted ones: who has read it has passed them.
	if err := plain.ProduceSync(ctx, record([]byte("last"), []byte("record"))).FirstErr(); err != nil {
		return fmt.Errorf("write the last record to topic %s: %w", topic, err)
	}
	return nil
}

func read(ctx context.Context, addr, topic string, n int, group []string, stdout io.Writer) (err error) {
	opts := []kgo.Opt{kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted())}
	if len(group) > 0 {
		opts = append(opts, kgo.ConsumerGroup(group[0]), kgo.DisableAutoCommit())
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	w := bufio.NewWriter(stdout)
	defer func() {
		if flushed := w.Flush(); err == nil {
			err = flushed
		}
	}()
	for seen := 0; seen < n; {
		fetches := client.PollRecords(ctx, n-seen)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("topic %s: %d of %d records read: %w", topic, seen, n, err)
		}
		for r := range fetches.RecordsAll() {
			seen++
			fmt.Fprintf(w, "%s\t%s\t%s\n", headers(r.Headers), field(r.Key), field(r.Value))
		}
		if len(group) > 0 {
			if err := client.CommitRecords(ctx, fetches.Records()...); err != nil {
				return fmt.Errorf("group %s: commit: %w", group[0], err)
			}
		}
	}
	return nil
}

func field(b []byte) string {
	if b == nil {
		return "NULL"
	}
	return string(b)
}

func headers(hs []kgo.RecordHeader) string {
	if len(hs) == 0 {
		return "NO_HEADERS"
	}
	s := ""
	for i, h := range hs {
		if i > 0 {
			s += ","
		}
		s += h.Key + ":" + field(h.Value)
	}
	return s
}
