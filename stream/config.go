package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Guarantee is what holds for results when something fails.
type Guarantee int

const (
	// ExactlyOnce writes state, results and input offsets in one transaction (exactly_once_v2 of Kafka
	// Streams, KIP-447): readers with read_committed see each input record's effect once. It needs a
	// cluster with transactions and is the default.
	ExactlyOnce Guarantee = iota
	// AtLeastOnce loses nothing, but repeats results and state changes after a failure.
	AtLeastOnce
)

func (g Guarantee) String() string {
	switch g {
	case ExactlyOnce:
		return "exactly-once"
	case AtLeastOnce:
		return "at-least-once"
	}
	return fmt.Sprintf("Guarantee(%d)", int(g))
}

// Config says where and how an application runs. AppID and Brokers are required; the zero value of all
// other fields is a sensible default.
type Config struct {
	// AppID names the application: it is the consumer group, the prefix of internal topics and
	// transactional ids, and the name of the state directory's sub-directory.
	AppID string
	// Brokers are host:port addresses to find the cluster by.
	Brokers []string
	// StateDir is where stores live, in a sub-directory named after AppID; one process at a time.
	// Default: moldau in the system's temporary directory. Give a lasting one, or stores are restored from
	// their changelogs after a reboot. It also keeps the id that stands in for InstanceID if that is empty.
	StateDir string
	// Guarantee is ExactlyOnce or AtLeastOnce.
	Guarantee Guarantee
	// Workers is the number of goroutines that run tasks, each with its own producer. Default: one per core (GOMAXPROCS).
	Workers int
	// CommitInterval is how often offsets, state and (exactly-once) results are committed. Default, as in
	// Kafka Streams: 100 ms exactly-once, 30 s at-least-once.
	CommitInterval time.Duration

	// InstanceID names this process within the application, the same after each restart. It makes the
	// process a static member of the group (KIP-345): after a restart within SessionTimeout it has its tasks
	// back without a rebalance; it does not leave the group when it stops. Transactional ids are derived from
	// it. Empty: the id in the state directory is used in its place, and the process leaves the group when it stops.
	//
	// If a process without InstanceID is killed and its state directory lost, it comes back as somebody else: nobody ends the
	// transaction that it left open before TransactionTimeout is over, and the group gives its tasks away only after
	// SessionTimeout. Until then readers with read_committed, restore included, wait at that transaction. Set it where disks are not
	// kept (for example to the name of the pod of a StatefulSet).
	InstanceID string
	// SessionTimeout is how long the group waits for a process that went silent. Default 10 s.
	SessionTimeout time.Duration
	// TransactionTimeout is how long the cluster leaves a transaction open whose process went silent;
	// it must be longer than CommitInterval. Default 10 s.
	TransactionTimeout time.Duration
	// StartTimeout is how long Run waits for a broker at its start. Default 30 s.
	StartTimeout time.Duration
	// TaskTimeout is how long the application waits for the cluster while it runs (brokers gone, a
	// coordinator that moves), before it fails. Default 5 min.
	TaskTimeout time.Duration
	// StopTimeout bounds the last commit when the application stops. Default 10 s.
	StopTimeout time.Duration

	// MaxTaskIdle is how long a task with several inputs waits for one that is empty, before it goes on with the records of
	// the others (max.task.idle.ms of Kafka Streams): the longer, the better records are in the order of their times. An
	// input that was empty for so long holds nothing back until it has a record again. 0: a task waits for records that are
	// known to be in the cluster, and no longer. Below 0: it waits for nothing.
	MaxTaskIdle time.Duration

	// IdleAdvance has time go on where there is no input: when no record came to a task for so long, and none is known to be
	// there, its stream time moves on with the wall clock, from where the last record left it. Windows close then, what
	// SuppressFor and SuppressUntilClose hold back is sent, outer joins give the results without a match, and punctuations by
	// stream time are called. Records that come later, with times before that, are late. 0: results wait for the next
	// record, as in Kafka Streams.
	//
	// Behind a repartition topic is another task, which knows nothing of the first one's time: results of windows that closed
	// because of idle input come late there, by as much as the windows' size and grace. Give what is built on them more grace
	// than that, and make IdleAdvance longer than the longest pause between commits.
	IdleAdvance time.Duration

	// Topics are the defaults for the internal topics that the application creates.
	Topics TopicDefaults
	// PurgeInterval is how often repartition topics are cut behind the committed offsets. Default 30 s.
	PurgeInterval time.Duration
	// StateCleanupDelay is how long the state of a task stays in StateDir after the task has moved to another process. When
	// the task comes back before, only what is new is restored. Default 10 min.
	StateCleanupDelay time.Duration

	// EmitPerUpdate makes tables send each update on at once, as Kafka Streams does without caches, instead of the last one of
	// a key at each commit. Operators that chose their emission themselves keep it.
	EmitPerUpdate bool

	// MemoryBytes is the budget for stores and their caches and for buffered input, together. Default 256 MiB. Windows and
	// joins whose live rows need more than their share read them from the disk, which takes some microseconds for each.
	MemoryBytes int64

	// OnError decides what happens to a record that cannot be decoded, processed or produced. Nil: Stop.
	// It is called from workers, several at a time. The context ends when the application stops.
	//
	// An output that cannot be encoded is a failure of its input record, which is left out as a whole, or processed again. About an
	// output that its topic does not take the answer is for that output alone: one that is larger than a batch may be
	// (kgo.ProducerBatchMaxBytes, max.message.bytes), without a key for a compacted topic, or with a time outside of
	// message.timestamp.before.max.ms and message.timestamp.after.max.ms. The topic's configuration is asked for when a worker writes to it
	// first, if the application may (DESCRIBE_CONFIGS), and is not asked again.
	//
	// What the cluster refuses in spite of that is refused after it was sent, and with it other records of the commit, so that nothing
	// can be left out or taken back singly: the application stops, with an error that names topic, partition and operator, and what was
	// not committed is done again by the next start. The same holds for topics that the application may not write, and for sizes if
	// Config.Client compresses, because nobody knows them before.
	OnError func(context.Context, *RecordError) Action
	// DeadLetterTopic is where records go for which OnError returns DeadLetter. It must exist. The record
	// has the original key, value and headers, and headers of Kafka Streams' names (KIP-1034) that say where it
	// came from and what was wrong.
	DeadLetterTopic string

	// OnState is called for each change of state, in order, from one goroutine; it must not block for long.
	OnState func(StateChange)
	// OnRestore is called about the progress of stores that are restored from their changelogs, and of global stores that are
	// filled before the first task starts, from several goroutines at a time.
	OnRestore func(RestoreProgress)

	// Logger gets structured logs. Nil: none.
	Logger *slog.Logger
	// Now is the clock behind wall-clock time. Nil: time.Now.
	Now func() time.Time

	// Client are further options for all Kafka clients of the application: dialer, TLS, SASL, hooks,
	// compression, fetch sizes ... New refuses those that the runtime sets itself.
	Client []kgo.Opt
}

// TopicDefaults are for the topics that an application creates.
type TopicDefaults struct {
	// ReplicationFactor of internal topics. 0: the broker's default.
	ReplicationFactor int16
	// Configs are topic configurations of all internal topics. They win over Kafka Streams' defaults
	// (cleanup.policy, segment.bytes, retention.ms ...), and those of a single store over them.
	Configs map[string]string
}

// legalAppID are Kafka's rules for topic names: the id is a prefix of them.
var legalAppID = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)

// withDefaults returns the complete configuration, or everything that is wrong with it.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.AppID == "" {
		wrong("Config.AppID is empty: give the application a name")
	} else if !legalAppID.MatchString(c.AppID) || c.AppID == "." || c.AppID == ".." {
		wrong("Config.AppID %q is not legal: 1 to 200 of a-z A-Z 0-9 . _ -", c.AppID)
	}
	if len(c.Brokers) == 0 {
		wrong("Config.Brokers is empty: give at least one host:port")
	}
	if c.Guarantee != ExactlyOnce && c.Guarantee != AtLeastOnce {
		wrong("Config.Guarantee %d is unknown", int(c.Guarantee))
	}
	if c.InstanceID != "" && !legalAppID.MatchString(c.InstanceID) {
		wrong("Config.InstanceID %q is not legal: 1 to 200 of a-z A-Z 0-9 . _ -", c.InstanceID)
	}
	if c.Workers < 0 {
		wrong("Config.Workers is %d", c.Workers)
	}
	if c.MemoryBytes < 0 {
		wrong("Config.MemoryBytes is %d", c.MemoryBytes)
	}
	if c.DeadLetterTopic != "" && !legalAppID.MatchString(c.DeadLetterTopic) {
		wrong("Config.DeadLetterTopic %q is not the name of a topic", c.DeadLetterTopic)
	}

	if c.StateDir == "" {
		c.StateDir = filepath.Join(os.TempDir(), "moldau")
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	commit := 100 * time.Millisecond
	if c.Guarantee == AtLeastOnce {
		commit = 30 * time.Second
	}
	for _, d := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"CommitInterval", &c.CommitInterval, commit},
		{"SessionTimeout", &c.SessionTimeout, 10 * time.Second},
		{"TransactionTimeout", &c.TransactionTimeout, 10 * time.Second},
		{"StartTimeout", &c.StartTimeout, 30 * time.Second},
		{"TaskTimeout", &c.TaskTimeout, 5 * time.Minute},
		{"StopTimeout", &c.StopTimeout, 10 * time.Second},
		{"PurgeInterval", &c.PurgeInterval, 30 * time.Second},
		{"StateCleanupDelay", &c.StateCleanupDelay, 10 * time.Minute},
		{"IdleAdvance", &c.IdleAdvance, 0},
	} {
		if *d.v < 0 {
			wrong("Config.%s is %v", d.name, *d.v)
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Guarantee == ExactlyOnce && c.TransactionTimeout <= c.CommitInterval {
		wrong("Config.TransactionTimeout (%v) must be longer than CommitInterval (%v)", c.TransactionTimeout, c.CommitInterval)
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = 256 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := checkClientOptions(c.Client); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("stream: configuration: %w", err)
	}
	return c, nil
}

// storeBytes and inputBytes divide the memory budget: stores get three quarters, input the rest.
func (c *Config) storeBytes() int64 { return c.MemoryBytes / 4 * 3 }
func (c *Config) inputBytes() int64 { return c.MemoryBytes / 4 }
