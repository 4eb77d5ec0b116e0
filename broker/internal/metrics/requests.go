package metrics

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxKey     = 128 // API keys above are not served
	maxVersion = 32
)

// Times are the stages of one request.
type Times struct {
	Received time.Time     // the whole frame had been read
	Local    time.Duration // in the handler
	Answered time.Time     // the answer was ready
	Sent     time.Time     // it was written to the connection
}

// API has what is counted of one API key.
type API struct {
	versions [maxVersion]atomic.Uint64
	// Total is from the last byte of the request to the answer's way into the connection; Local is in the handler, Remote waiting
	// after it, for a disk or for records; Send is the answer's wait for its turn and its writing. Times of Kafka's RequestMetrics.
	Total, Local, Remote, Send Durations
}

// Versions gives the number of requests by version, for those that there were.
func (a *API) Versions() map[int16]uint64 {
	out := map[int16]uint64{}
	for v := range a.versions {
		if n := a.versions[v].Load(); n > 0 {
			out[int16(v)] = n
		}
	}
	return out
}

// Requests counts requests by API key. The zero value is ready to use.
type Requests struct {
	apis [maxKey]atomic.Pointer[API]

	mu     sync.Mutex
	errors map[Error]uint64 // bounded by the keys and error codes that exist
}

// Error is an error code in answers of an API key.
type Error struct{ Key, Code int16 }

// Done counts a request that was answered.
func (r *Requests) Done(key, version int16, t Times) {
	if key < 0 || key >= maxKey || version < 0 || version >= maxVersion {
		return
	}
	a := r.apis[key].Load()
	if a == nil {
		r.apis[key].CompareAndSwap(nil, new(API))
		a = r.apis[key].Load()
	}
	a.versions[version].Add(1)
	a.Total.Record(t.Sent, t.Sent.Sub(t.Received))
	a.Local.Record(t.Sent, t.Local)
	a.Remote.Record(t.Sent, t.Answered.Sub(t.Received)-t.Local)
	a.Send.Record(t.Sent, t.Sent.Sub(t.Answered))
}

// Failed counts an error in an answer. Kafka counts each error of an answer once, however many partitions have it.
func (r *Requests) Failed(key, code int16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.errors == nil {
		r.errors = map[Error]uint64{}
	}
	r.errors[Error{key, code}]++
}

// Each calls f with what was asked so far, in order of key.
func (r *Requests) Each(f func(key int16, a *API)) {
	for k := range r.apis {
		if a := r.apis[k].Load(); a != nil {
			f(int16(k), a)
		}
	}
}

// Errors gives the errors so far.
func (r *Requests) Errors() map[Error]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[Error]uint64, len(r.errors))
	for e, n := range r.errors {
		out[e] = n
	}
	return out
}
