package conformance

import (
	"context"
	"math"
	"time"

	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	"github.com/moldau-stream/moldau/window"
)

// contents reads a store to its end, in two ways.
type contents struct {
	// entries reads what the tasks of a driver have.
	entries func(d *streamtest.Driver) []row
	// query reads what state.Query shows. A versioned store is asked for the keys of like.
	query func(ctx context.Context, h state.Host, like []row, opts ...state.QueryOption) ([]row, error)
	// untimed says that a query does not show the times of values.
	untimed bool
	// unlisted says that the corpus does not list the store, but its changelog.
	unlisted bool
}

// keep has the final content of a key-value store compared.
func keep[V any](p *program, h state.KV[text, V], show func(V) string) {
	p.stores[h.StoreName()] = contents{
		entries: entriesOf(h, plainKey, show),
		query: func(ctx context.Context, host state.Host, _ []row, opts ...state.QueryOption) ([]row, error) {
			q, err := state.Query(ctx, host, h, opts...)
			if err != nil {
				return nil, err
			}
			var all []row
			c := q.All()
			for k := range c.All() {
				v, at, ok, err := q.GetWithTime(k)
				if err != nil {
					return nil, err
				}
				if ok { // a global table goes on beside us
					all = append(all, valued(plainKey(k), show(v), millis(at)))
				}
			}
			return all, c.Err()
		},
	}
}

// keepPlain is keep for a store without timestamps.
func keepPlain(p *program, h state.KV[text, text]) {
	keep(p, h, showText)
	timed := p.stores[h.StoreName()]
	p.stores[h.StoreName()] = contents{
		entries: func(d *streamtest.Driver) []row { return withoutTimes(timed.entries(d)) },
		query: func(ctx context.Context, host state.Host, like []row, opts ...state.QueryOption) ([]row, error) {
			all, err := timed.query(ctx, host, like, opts...)
			return withoutTimes(all), err
		},
	}
}

func keepWindows[V any](p *program, h state.Windowed[text, V], w *windows, show func(V) string) {
	key := windowKey(w)
	p.stores[h.StoreName()] = contents{
		entries: entriesOf(h, key, show),
		query: func(ctx context.Context, host state.Host, _ []row, opts ...state.QueryOption) ([]row, error) {
			q, err := state.QueryWindow(ctx, host, h, opts...)
			if err != nil {
				return nil, err
			}
			return queried(q.FetchAll(time.UnixMilli(0), time.UnixMilli(math.MaxInt64)), key, show)
		},
		untimed: true,
	}
}

func keepSessions[V any](p *program, h state.Sessions[text, V], show func(V) string) {
	key := func(k window.SessionKey[text]) row {
		return row{Key: k.Key.Or("null"), Start: millis(k.Start), End: millis(k.End)}
	}
	p.stores[h.StoreName()] = contents{
		entries: entriesOf(h, key, show),
		query: func(ctx context.Context, host state.Host, _ []row, opts ...state.QueryOption) ([]row, error) {
			q, err := state.QuerySession(ctx, host, h, opts...)
			if err != nil {
				return nil, err
			}
			return queried(q.FetchAll(time.UnixMilli(0), time.UnixMilli(math.MaxInt64)), key, show)
		},
		untimed:  true,
		unlisted: true,
	}
}

func keepVersions(p *program, h state.VersionedKV[text, text]) {
	p.stores[h.StoreName()] = contents{
		entries: entriesOf(h, plainKey, showText),
		query: func(ctx context.Context, host state.Host, like []row, opts ...state.QueryOption) ([]row, error) {
			q, err := state.QueryVersioned(ctx, host, h, opts...)
			if err != nil {
				return nil, err
			}
			var all []row
			asked := map[string]bool{}
			for _, r := range like {
				if asked[r.Key] {
					continue
				}
				asked[r.Key] = true
				versions := q.Versions(stream.Some(r.Key), time.UnixMilli(0), time.UnixMilli(math.MaxInt64))
				for at, v := range versions.All() {
					all = append(all, valued(row{Key: r.Key}, showText(v), millis(at.From)))
				}
				if err := versions.Err(); err != nil {
					return nil, err
				}
			}
			return all, nil
		},
		unlisted: true,
	}
}

func entriesOf[K, V any](h state.Spec[K, V], key func(K) row, show func(V) string) func(d *streamtest.Driver) []row {
	return func(d *streamtest.Driver) []row {
		var all []row
		for _, e := range streamtest.Entries(d, h) {
			all = append(all, valued(key(e.Key), show(e.Value), millis(e.Time)))
		}
		return all
	}
}

func queried[K, V any](c *state.Cursor[K, V], key func(K) row, show func(V) string) ([]row, error) {
	var all []row
	for k, v := range c.All() {
		all = append(all, valued(key(k), show(v), nil))
	}
	return all, c.Err()
}

func valued(r row, value string, at *int64) row {
	r.Value, r.TS = &value, at
	return r
}

func withoutTimes(all []row) []row {
	var out []row
	for _, r := range all {
		r.TS = nil
		out = append(out, r)
	}
	return out
}
