package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// Call makes a new value of each with a function that asks somebody else: a service, a database. A call has a Timeout, and
// is made again, as often as Retries says, when it fails; what becomes of the record after the last failure is decided by
// Config.OnError. A null value of a type that cannot be null stays null, without a call.
//
// Records keep their order, because a task waits for each call before it takes the next record, and its worker with it:
// more partitions and Config.Workers make more calls at a time. What a record takes, all its tries and pauses, must be well below
// Config.TransactionTimeout, or the cluster ends the transaction meanwhile. A call can be made again for a record that was
// processed before, after a crash: exactly-once holds for what the application writes to its cluster.
//
// The context ends with the timeout, and when the application stops. Then there are no more tries, and the record is
// processed by the next start.
func Call[K, V, R any](s KStream[K, V], f func(context.Context, V) (R, error), opts ...Option) KStream[K, R] {
	r := deriveWith(s, "Call", "KSTREAM-MAPVALUES-", false, f != nil, dsl.OptName|dsl.OptTimeout|dsl.OptRetries, opts,
		func(c *task.Context, o dsl.Options, n *topo.Node, out task.Stream[K, R]) task.Stream[K, V] {
			needs, nullR := dsl.NeedsValue[V](), dsl.NullValue[R]()
			p := patience{timeout: o.Timeout, retries: o.Retries, pause: o.Pause}
			return func(k K, v V, m task.Meta) error {
				var r R
				if m.Null&needs == 0 {
					c.Node = n
					err := p.try(c.Context(), func(ctx context.Context) (err error) {
						r, err = f(ctx, v)
						return err
					})
					if err != nil {
						return task.Fail(n, task.Process, err)
					}
					m.Null = nullR.Of(r, m.Null)
				}
				return out(k, r, m)
			}
		})
	r.e.Key = s.e.Key
	return r
}

// Timeout bounds each try of a Call. Without it only the application's stop ends the context of a call.
func Timeout(d time.Duration) Option {
	return dsl.NewOption(dsl.OptTimeout, func(c *dsl.Options) { c.Timeout = d })
}

// Retries makes a Call that fails again, up to n times: after a pause the first time, then after twice the pause before, but
// never more than a minute.
func Retries(n int, pause time.Duration) Option {
	return dsl.NewOption(dsl.OptRetries, func(c *dsl.Options) { c.Retries, c.Pause = n, pause })
}

// patience is how long and how often a call is tried.
type patience struct {
	timeout time.Duration // of a try; 0: without end
	retries int
	pause   time.Duration // before the first of them
}

// longestPause bounds the pauses between two tries.
const longestPause = time.Minute

func (p patience) try(ctx context.Context, call func(context.Context) error) error {
	pause := p.pause
	for n := 0; ; n++ {
		err := p.once(ctx, call)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", task.ErrStopped, err)
		case n == p.retries && n == 0:
			return err
		case n == p.retries:
			return fmt.Errorf("after %d tries: %w", n+1, err)
		}
		pause = min(pause, longestPause)
		if wait(ctx, pause); ctx.Err() != nil {
			return fmt.Errorf("%w: %w", task.ErrStopped, err)
		}
		pause *= 2
	}
}

func (p patience) once(ctx context.Context, call func(context.Context) error) error {
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	return call(ctx)
}
