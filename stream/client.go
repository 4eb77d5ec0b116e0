package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clientOptions are the options of every Kafka client of the application; role is what it is for.
func (c *Config) clientOptions(role string, h *health, opts ...kgo.Opt) []kgo.Opt {
	all := append([]kgo.Opt{
		kgo.ClientID(c.AppID + "-" + role),
		// Old metadata costs latency after a topic was created or a leader moved, a request costs little.
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RetryBackoffFn(backoff),
		// A fetch that waits for data keeps partitions out that are added or resumed meanwhile: not for long.
		kgo.FetchMaxWait(50 * time.Millisecond),
		// As Kafka's producers do, whose records Kafka Streams writes: who pays for the network chooses a codec.
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		// A commit hands over what changed in all tables at once, and should not wait for acknowledgements in
		// the middle of it.
		kgo.MaxBufferedRecords(freeBlocks * blockRecords),
		kgo.MaxBufferedBytes(32 << 20),
	}, c.Client...)
	all = append(all,
		kgo.SeedBrokers(c.Brokers...),
		kgo.WithLogger(kgoLogger{c.Logger.With("client", role)}),
		kgo.WithHooks(h),
	)
	return append(all, opts...)
}

// backoff between tries of a request: it is short, because most waits are for something that takes
// milliseconds (a coordinator that loads, a leader that is elected), and bounded for the rest.
func backoff(tries int) time.Duration {
	return min(20*time.Millisecond<<min(tries, 6), time.Second)
}

// kgoLogger passes kgo's log on: what it calls info and below is our debug.
type kgoLogger struct{ l *slog.Logger }

func (k kgoLogger) Level() kgo.LogLevel {
	switch ctx := context.Background(); {
	case k.l.Enabled(ctx, slog.LevelDebug):
		return kgo.LogLevelInfo
	case k.l.Enabled(ctx, slog.LevelWarn):
		return kgo.LogLevelWarn
	case k.l.Enabled(ctx, slog.LevelError):
		return kgo.LogLevelError
	}
	return kgo.LogLevelNone
}

func (k kgoLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	l := slog.LevelDebug
	switch level {
	case kgo.LogLevelError:
		l = slog.LevelError
	case kgo.LogLevelWarn:
		l = slog.LevelWarn
	}
	k.l.Log(context.Background(), l, msg, keyvals...)
}

// connect waits until a broker answers, StartTimeout at most.
func (a *App) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.StartTimeout, errStartTimeout)
	defer cancel()
	for tries := 0; ; tries++ {
		err := a.client.Ping(ctx)
		if err == nil {
			return nil
		}
		if !temporary(err) {
			return fmt.Errorf("connect to %s: %w", strings.Join(a.cfg.Brokers, ", "), err)
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errStartTimeout) {
				if _, reason := a.health.trouble(); reason != nil {
					err = reason
				}
				return fmt.Errorf("no broker answered within %v at %s: %w; check Config.Brokers and that the cluster runs",
					a.cfg.StartTimeout, strings.Join(a.cfg.Brokers, ", "), err)
			}
			return context.Cause(ctx)
		case <-time.After(backoff(tries)):
		}
	}
}

var errStartTimeout = errors.New("start timeout")

// temporary is whether waiting may help against an error of a request: the cluster is away, moves a leader
// or coordinator, or loads it. Authentication, authorisation, and what the request itself has wrong, stay wrong.
func temporary(err error) bool {
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return ke.Retriable || errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, kerr.CoordinatorLoadInProgress) ||
			errors.Is(err, kerr.ConcurrentTransactions) || errors.Is(err, kerr.UnstableOffsetCommit) || errors.Is(err, kerr.UnknownServerError)
	}
	var eof *kgo.ErrFirstReadEOF
	if errors.As(err, &eof) {
		return true // also how a broker that stops looks like; the message about TLS and SASL becomes the reason
	}
	return !errors.Is(err, kgo.ErrClientClosed)
}
