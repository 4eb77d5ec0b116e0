package streamtest_test

import (
	"fmt"
	"testing"

	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// inTest runs an example, which has no testing.T, as a test would.
func inTest(f func(t testing.TB)) {
	testing.Benchmark(func(b *testing.B) {
		if b.N == 1 {
			f(b)
		}
	})
}

func ExampleDriver_CrashDuringCommit() {
	inTest(func(t testing.TB) {
		d := streamtest.New(t, countWords(), streamtest.OnDisk())
		in := streamtest.Input(d, sentences)
		in.Send("", "to be")
		d.CrashDuringCommit(streamtest.LoseState()) // the stores begin empty, and are restored
		in.Send("", "or not to be")
		for _, r := range streamtest.Output(d, perWord).Drain() {
			fmt.Println(r.Key, r.Value)
		}
	})
	// Output:
	// to 1
	// be 1
	// or 1
	// not 1
	// to 2
	// be 2
}

func ExampleDriver_CrashBeforeCommit() {
	inTest(func(t testing.TB) {
		d := streamtest.New(t, countWords())
		d.CrashBeforeCommit(streamtest.AfterCommits(1)) // the task that counts crashes, not the one that splits
		streamtest.Input(d, sentences).Send("", "to be")
		n, _ := streamtest.Get(d, words, "be")
		fmt.Println(d.Crashed(), n)
	})
	// Output: true 1
}

func ExampleDriver_Move() {
	inTest(func(t testing.TB) {
		d := streamtest.New(t, countWords(), streamtest.Instances(2))
		in := streamtest.Input(d, sentences)
		in.Send("", "to be")
		fmt.Println(d.Tasks(), d.Instance("1_0"))
		d.Move("1_0", 0)
		in.Send("", "to")
		n, _ := streamtest.Get(d, words, "to")
		fmt.Println(d.Instance("1_0"), n)
	})
	// Output:
	// [0_0 1_0] 1
	// 0 2
}

func ExampleSeed() {
	inTest(func(t testing.TB) {
		counts := map[int64]int{}
		for seed := range uint64(20) {
			d := streamtest.New(t, countWords(), streamtest.Seed(seed), streamtest.Partitions("sentences", 2))
			in := streamtest.Input(d, sentences)
			d.Together(func() {
				in.SendTo(0, stream.Record[string, string]{Value: "be"})
				in.SendTo(1, stream.Record[string, string]{Value: "be"})
			})
			n, _ := streamtest.Get(d, words, "be")
			counts[n]++
		}
		fmt.Println(counts)
	})
	// Output: map[2:20]
}

func ExampleEntries() {
	inTest(func(t testing.TB) {
		d := streamtest.New(t, countWords())
		streamtest.Input(d, sentences).Send("", "to be")
		for _, e := range streamtest.Entries(d, words) {
			fmt.Println(e.Key, e.Value, e.Time)
		}
	})
	// Output:
	// be 1 2000-01-01 00:00:00 +0000 UTC
	// to 1 2000-01-01 00:00:00 +0000 UTC
}
