package conformance

import (
	"hash/fnv"
	"math/rand/v2"

	"github.com/moldau-stream/moldau/stream/streamtest"
)

// sampled tells whether a scenario is left out: with the race detector nine of ten are.
func sampled(id string) bool { return raceEnabled && hash(id)%10 != 0 }

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// crashes returns what disturbs the application at random before a step: a restart, a crash in one of the commits of
// the step, or tasks that go to another instance, with and without the local state.
func crashes(seed *int64, id string) func(d *streamtest.Driver) {
	if seed == nil {
		return func(*streamtest.Driver) {}
	}
	r := rand.New(rand.NewPCG(uint64(*seed), hash(id)))
	return func(d *streamtest.Driver) {
		var opts []streamtest.RestartOption
		if r.IntN(2) == 0 {
			opts = append(opts, streamtest.LoseState())
		}
		atCommit := append(opts, streamtest.AfterCommits(r.IntN(3)))
		switch r.IntN(12) {
		case 0:
			d.Restart(opts...)
		case 1:
			d.CrashBeforeCommit(atCommit...)
		case 2:
			d.CrashDuringCommit(atCommit...)
		case 3:
			d.Rebalance()
		}
	}
}
