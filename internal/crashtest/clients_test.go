package crashtest

import (
	"context"
	"encoding/binary"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// words is the example's rule, written a second time on purpose: it is the oracle.
func words(line string) []string {
	var ws []string
	for _, w := range strings.Fields(line) {
		w = strings.TrimFunc(strings.ToLower(w), func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) })
		if w != "" {
			ws = append(ws, w)
		}
	}
	return ws
}

// loader writes lines for as long as it runs and counts the words of those that were acknowledged.
type loader struct {
	client *kgo.Client
	stopIt context.CancelFunc
	done   chan struct{}
	err    error
	n      int64
	counts map[string]int64
}

func startLoader(t *testing.T, addr string) *loader {
	book, err := os.ReadFile("../../examples/wordcount/data/opticks.txt")
	require.NoError(t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("lines"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	l := &loader{client: client, stopIt: cancel, done: make(chan struct{}), counts: make(map[string]int64)}
	go func() {
		defer close(l.done)
		l.err = l.run(ctx, strings.Split(string(book), "\n"))
	}()
	t.Cleanup(func() { cancel(); <-l.done; client.Close() })
	return l
}

// run writes bursts of lines, some 2,000 a second; a burst is counted when all of it is acknowledged. It ends between two bursts.
func (l *loader) run(ctx context.Context, lines []string) error {
	const burst = 40
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for i := 0; ; i += burst {
		select {
		case <-ctx.Done():
			return nil
		case <-pace.C:
		}
		var rs []*kgo.Record
		for j := i; j < i+burst; j++ {
			rs = append(rs, &kgo.Record{Partition: int32(j % partitions), Value: []byte(lines[j%len(lines)])})
		}
		// Not ctx: a burst that began is finished, else nobody could say what it counts for.
		if err := l.client.ProduceSync(context.WithoutCancel(ctx), rs...).FirstErr(); err != nil {
			return err
		}
		for _, r := range rs {
			for _, w := range words(string(r.Value)) {
				l.counts[w]++
			}
		}
		l.n += burst
	}
}

// stop returns the plain count of all that was written.
func (l *loader) stop(t *testing.T) map[string]int64 {
	l.stopIt()
	select {
	case <-l.done:
	case <-time.After(patience):
		require.Fail(t, "the loader waits for an acknowledgement")
	}
	require.NoError(t, l.err)
	return l.counts
}

func (l *loader) lines() int64 { return l.n } // after stop

// watcher reads the committed output from its beginning, as any consumer would.
type watcher struct {
	mu      sync.Mutex
	changed chan struct{}    // closed and replaced when something was read
	next    map[int32]int64  // per partition: offset after the last record read
	last    map[string]int64 // per word: its last count
	broken  []string         // counts that did not grow
	n       int64
}

func startWatcher(t *testing.T, addr string) *watcher {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("word-counts"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(t, err)
	w := &watcher{changed: make(chan struct{}), next: make(map[int32]int64), last: make(map[string]int64)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			w.read(fetches)
		}
	}()
	t.Cleanup(func() { client.Close(); <-done })
	return w
}

func (w *watcher) read(fetches kgo.Fetches) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for r := range fetches.RecordsAll() {
		word, count := string(r.Key), int64(-1)
		if len(r.Value) == 8 {
			count = int64(binary.BigEndian.Uint64(r.Value))
		}
		if count <= w.last[word] {
			w.broken = append(w.broken, word)
		}
		w.last[word] = count
		w.next[r.Partition] = r.Offset + 1
		w.n++
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// wait blocks until ok, which is called with the lock held, says that the output is as awaited.
func (w *watcher) wait(t *testing.T, what string, ok func() bool) {
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		reached, changed := ok(), w.changed
		w.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			require.Fail(t, "not within "+patience.String()+": "+what)
		}
	}
}

// waitPast waits for a committed record beyond the given ends.
func (w *watcher) waitPast(t *testing.T, ends map[int32]int64) {
	w.wait(t, "committed output", func() bool {
		for p, next := range w.next {
			if next > ends[p] {
				return true
			}
		}
		return false
	})
}

// waitCounts waits until the last counts add up to the number of words written.
func (w *watcher) waitCounts(t *testing.T, want map[string]int64) {
	w.wait(t, "all words counted", func() bool { return sum(w.last) >= sum(want) })
}

func (w *watcher) check(t *testing.T, want map[string]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(t, w.broken, "words whose committed counts did not increase strictly")
	require.Equal(t, want, w.last)
}

func (w *watcher) records() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}
