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

// crashes returns what ends the application at random and starts it again, between two steps.
func crashes(seed *int64, id string) func(d *streamtest.Driver) {
	if seed == nil {
		return func(*streamtest.Driver) {}
	}
	r := rand.New(rand.NewPCG(uint64(*seed), hash(id)))
	return func(d *streamtest.Driver) {
		switch r.IntN(10) {
		case 0:
			d.Restart()
		case 1:
			d.Restart(streamtest.LoseState())
		}
	}
}
