package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/fault"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// Durability says what an acknowledged record has survived.
type Durability int

const (
	// Sync acknowledges what an fsync has covered. One fsync covers everything that arrived while the last one ran. This is the
	// default.
	Sync Durability = iota
	// PageCache acknowledges what the operating system has taken, as Apache Kafka does. A crash of the process loses nothing;
	// a crash of the machine loses what the system had not written yet, up to half a minute of acknowledged records.
	PageCache
)

// String gives the name of the mode as the command line has it.
func (d Durability) String() string { return d.replica().String() }

func (d Durability) replica() replica.Durability {
	if d == PageCache {
		return replica.PageCache
	}
	return replica.Sync
}

// Limits bound what clients can make the server hold. Zero fields get defaults.
type Limits struct {
	// Connections is the number of open connections (10,000).
	Connections int
	// InFlight is the number of unanswered requests per connection (100); more are left unread.
	InFlight int
	// FrameBytes is the size of a request (100 MiB); a larger one closes its connection.
	FrameBytes int
	// RequestBytes is the memory of all requests over 64 KiB that are being read or served (256 MiB); more wait.
	RequestBytes int64
	// FetchBytes is the memory of all fetched records on their way out (256 MiB); when it gets scarce, fetches return less.
	FetchBytes int64
	// FetchMaxBytes is the size of one fetch answer (55 MiB).
	FetchMaxBytes int32
	// Idle closes a connection that asked nothing for that long (10 minutes; negative: never).
	Idle time.Duration
	// Stall closes a connection that stops in the middle of a request, or takes no answer, for that long (30 seconds).
	Stall time.Duration
	// Partitions is the number of partitions that one topic may have (10,000), TotalPartitions that of all topics (100,000).
	Partitions, TotalPartitions int
}

// Config configures a broker. The zero value is a broker in memory that is reachable by DialContext only.
type Config struct {
	// NodeID is the broker's id in the cluster; 0 means 1, or 0 if the property node.id says so. It cannot change once a directory
	// has topics.
	NodeID int32
	// Listen are addresses like "127.0.0.1:9092" or ":0" (a port that is free) to serve on. Empty: in-process only.
	Listen []string
	// Advertise gives the address at which clients find the broker that reached it at the local address. nil: that same address,
	// which is right unless there is a proxy or a port mapping between.
	Advertise func(local net.Addr) string
	// Listeners are more addresses to serve on, which may have TLS and SASL, and addresses of their own for clients to find them.
	Listeners []Listener
	// Users are the names and passwords of clients that log in by SASL, whatever the mechanism of their listener. SCRAM knows
	// besides these the users that AlterUserScramCredentials stored, which come first.
	Users map[string]string
	// DataDir is the directory of logs, made if need be. Empty: everything is in memory and gone with Close.
	DataDir string
	// Durability says what an acknowledgement promises.
	Durability Durability
	// Logger gets what an operator should know; nil discards it.
	Logger *slog.Logger
	// DefaultPartitions is the number of partitions of topics that are created without saying; 0 means 1 (num.partitions).
	DefaultPartitions int32
	// NoAutoCreate makes a topic that does not exist an error for who asks for it, instead of creating it
	// (auto.create.topics.enable).
	NoAutoCreate bool
	// OffsetsPartitions and TxnPartitions are the numbers of partitions of `__consumer_offsets` and `__transaction_state` at
	// their creation; 0 means 5. Kafka's 50 spread load over many brokers; here each costs files and memory.
	OffsetsPartitions, TxnPartitions int32
	// GroupInitialDelay is how long a new, empty group waits for more members before its first rebalance
	// (group.initial.rebalance.delay.ms). 0 does not wait, which is right for programs that start alone.
	GroupInitialDelay time.Duration
	// Limits bound what clients can make the broker hold.
	Limits Limits
	// Properties are configurations by the names that they have in Kafka's server.properties, such as log.retention.hours. Names that
	// Kafka does not know, values that it does not take, and what asks for something that this broker has not are errors of Start. A
	// property that has a field too may have another value in one of them only. DescribeConfigs shows what each is about, and whether
	// it has no effect here.
	Properties map[string]string
	// LogLevel is the least level that is logged, which kafka-configs --entity-type broker-loggers changes; nil: that of Logger.
	LogLevel *slog.LevelVar
	// Now is the clock of record timestamps, retention and transaction timeouts; nil: time.Now.
	Now func() time.Time
	// Faults are what brokertest breaks on purpose; nil: nothing. Only tests can make one.
	Faults *fault.Plan
	// FS holds DataDir; nil is the operating system, or memory if DataDir is empty. Only tests inside this module can make one.
	FS vfs.FS

	values       *config.Values // the static configuration, fields included
	certificates *certificates  // of the listeners that Properties made
}

// defaultInternalPartitions is the number of partitions of each internal topic.
const defaultInternalPartitions = 5

// defaults fills in what is not set and has a name in Kafka.
func (c *Config) defaults() {
	def := func(n *int32, d int32) {
		if *n == 0 {
			*n = d
		}
	}
	if !c.sets("node.id") && !c.sets("broker.id") {
		def(&c.NodeID, 1)
	}
	def(&c.DefaultPartitions, 1)
	def(&c.OffsetsPartitions, defaultInternalPartitions)
	def(&c.TxnPartitions, defaultInternalPartitions)
}

func (c *Config) sets(property string) bool {
	_, ok := c.Properties[property]
	return ok
}

func (c *Config) withDefaults() error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.LogLevel == nil {
		c.LogLevel = &slog.LevelVar{}
		c.LogLevel.Set(lowestLevel(c.Logger))
	}
	c.Logger = withLevel(c.Logger, c.LogLevel)
	var errs []error
	if err := c.withProperties(); err != nil {
		return err
	}
	positive := func(name string, n int32) {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s is %d; it must not be negative", name, n))
		}
	}
	positive("NodeID", c.NodeID)
	positive("DefaultPartitions", c.DefaultPartitions)
	positive("OffsetsPartitions", c.OffsetsPartitions)
	positive("TxnPartitions", c.TxnPartitions)
	if c.Durability != Sync && c.Durability != PageCache {
		errs = append(errs, fmt.Errorf("config field Durability is %d; it must be Sync or PageCache", int(c.Durability)))
	}
	errs = append(errs, c.checkListeners())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var err error
	c.values, err = config.New(c.static())
	return err
}
