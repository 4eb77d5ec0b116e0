package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// tally is the last count of each word that the output topic holds, as any consumer at read_committed sees it.
type tally struct {
	counts map[string]int64
	total  int64 // sum of counts
}

func (t *tally) add(r *kgo.Record) error {
	if len(r.Value) != 8 {
		return fmt.Errorf("topic %s, partition %d, offset %d: the value has %d bytes, a count has 8; did another program write it?",
			r.Topic, r.Partition, r.Offset, len(r.Value))
	}
	word, count := string(r.Key), int64(binary.BigEndian.Uint64(r.Value))
	t.total += count - t.counts[word]
	t.counts[word] = count
	return nil
}

// watch reads the output topic from its beginning until the counts add up to want words, or ctx ends.
func watch(ctx context.Context, c *cluster, want int64, progress func(words int64)) (*tally, error) {
	t := &tally{counts: map[string]int64{}}
	client, err := kgo.NewClient(append(c.options(),
		kgo.ConsumeTopics(countTopic),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)...)
	if err != nil {
		return t, err
	}
	defer client.Close()
	for t.total < want {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return t, ctx.Err()
		}
		if err := fetches.Err(); err != nil {
			return t, fmt.Errorf("read topic %s: %w", countTopic, err)
		}
		for r := range fetches.RecordsAll() {
			if err := t.add(r); err != nil {
				return t, err
			}
		}
		progress(t.total)
	}
	return t, nil
}

// report prints the most frequent words and whether every count equals the plain one; it returns an error if not.
func report(w io.Writer, got, plain map[string]int64, source string) error {
	top := slices.SortedFunc(maps.Keys(got), func(a, b string) int {
		return cmp.Or(cmp.Compare(got[b], got[a]), cmp.Compare(a, b))
	})
	for _, word := range top[:min(10, len(top))] {
		fmt.Fprintf(w, "%8d  %s\n", got[word], word)
	}
	var differ []string
	for word := range plain {
		if got[word] != plain[word] {
			differ = append(differ, word)
		}
	}
	for word := range got {
		if _, ok := plain[word]; !ok {
			differ = append(differ, word)
		}
	}
	var total int64
	for _, n := range plain {
		total += n
	}
	if len(differ) == 0 {
		_, err := fmt.Fprintf(w, "verified: all %d words, %d in total: each count in topic %s equals a plain count of %s\n",
			len(plain), total, countTopic, source)
		return err
	}
	slices.Sort(differ)
	var examples []string
	for _, word := range differ[:min(5, len(differ))] {
		examples = append(examples, fmt.Sprintf("%q %d instead of %d", word, got[word], plain[word]))
	}
	fmt.Fprintf(w, "WRONG: %d of %d words differ in topic %s from a plain count of %s: %s\n",
		len(differ), len(plain), countTopic, source, strings.Join(examples, ", "))
	return fmt.Errorf("%d words have a wrong count", len(differ))
}
