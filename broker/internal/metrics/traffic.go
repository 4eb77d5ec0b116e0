package metrics

import "sync/atomic"

// Traffic counts what goes in and out of a partition, a topic or the broker. The zero value is ready to use.
type Traffic struct {
	BytesIn, MessagesIn, BytesOut  atomic.Uint64
	Produces, FailedProduces       atomic.Uint64 // requests, counted once for each partition in them
	Fetches, FailedFetches         atomic.Uint64
	BytesRejected, CorruptProduces atomic.Uint64 // too large; with a wrong checksum
}

// Totals is Traffic at one moment.
type Totals struct {
	BytesIn, MessagesIn, BytesOut, Produces, FailedProduces, Fetches, FailedFetches, BytesRejected, CorruptProduces uint64
}

// Load reads all counters.
func (t *Traffic) Load() Totals {
	return Totals{
		t.BytesIn.Load(), t.MessagesIn.Load(), t.BytesOut.Load(), t.Produces.Load(), t.FailedProduces.Load(),
		t.Fetches.Load(), t.FailedFetches.Load(), t.BytesRejected.Load(), t.CorruptProduces.Load(),
	}
}

// Add sums two.
func (t Totals) Add(o Totals) Totals {
	return Totals{
		t.BytesIn + o.BytesIn, t.MessagesIn + o.MessagesIn, t.BytesOut + o.BytesOut, t.Produces + o.Produces, t.FailedProduces + o.FailedProduces,
		t.Fetches + o.Fetches, t.FailedFetches + o.FailedFetches, t.BytesRejected + o.BytesRejected, t.CorruptProduces + o.CorruptProduces,
	}
}
