// Package group is the group coordinator: membership of consumer groups by the classic
// protocol and by that of KIP-848, of share groups (KIP-932), and the offsets that
// consumers commit.
//
//	request ──► Service ──(hash of the group id)──► coordinator.Loop of a shard
//	                                                   │ Step
//	                                                   ▼
//	  conversations, presences ◄────────────────────── Machine ─► records
//	                       ▲                                        │
//	                       └──── adopt ◄── ledger ◄── Replay ◄── __consumer_offsets-N
//
// A shard is one partition of __consumer_offsets. What its log says is the ledger:
// groups with their members and assignments, committed offsets, and offsets of open
// transactions. Only Replay changes it. There are three kinds of group in one name
// space. Of a classic group the log has the last settled generation, and the rest is
// its conversation, with parked requests and session timers:
//
//	         join                    all joined, or timeout
//	Empty ─────────► PreparingRebalance ─────────────────► CompletingRebalance
//	  ▲                 ▲    │ nobody left    ▲                    │
//	  └─────────────────┼────┘                │ join, leave,       │ leader's sync
//	                    │ join, leave, expiry │ expiry             ▼ is logged
//	                    └─────────────────────┴───────────────── Stable
//
// Of a consumer group or share group (modernGroup) the log has everything: the
// coordinator assigns, and its members follow one by one (reconciler). Only how long
// they have is kept apart, in the group's presence. A classic group of consumers
// becomes a consumer group when the first member with that protocol joins, and a
// classic one again when the last of those is gone (migrate.go).
//
// Invariants:
//
//   - The conversation of a group that is Empty or Stable agrees with the ledger.
//     A crash loses a rebalance under way, never a settled generation: members of
//     the ledger come back with fresh sessions.
//   - A generation is settled (Stable, Empty) by replaying its GroupMetadata
//     record, never by a request. All of a modern group changes by replaying.
//   - A member that waits in a join or sync has no running session, except a new
//     one, who could not send heartbeats yet.
//   - No partition has two holders in a consumer group.
//   - Bytes of classic clients (metadata, assignments) are opaque here, but for
//     those of consumers, which are read and never trusted.
package group

import (
	"time"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Config has the limits of the coordinator, under Kafka's names for them. Zero
// values mean the defaults, which are Kafka's except where noted.
type Config struct {
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms; default 0, for programs that start alone
	MinSessionTimeout     time.Duration // group.min.session.timeout.ms, default 6 s
	MaxSessionTimeout     time.Duration // group.max.session.timeout.ms, default 30 min
	MaxSize               int           // group.max.size: members of a group, pending ones included; default 10,000 (Kafka: no limit)
	MaxGroups             int           // groups of one shard, default 100,000 (Kafka: no limit)
	MaxOffsetMetadata     int           // offset.metadata.max.bytes, default 4096
	OffsetsRetention      time.Duration // offsets.retention.minutes, default 7 days
	RetentionCheck        time.Duration // offsets.retention.check.interval.ms, default 10 min

	// Of consumer groups (KIP-848). A group's own configuration comes before these, within the bounds.
	ConsumerSession      time.Duration // group.consumer.session.timeout.ms, default 45 s
	MinConsumerSession   time.Duration // group.consumer.min.session.timeout.ms, default 45 s
	MaxConsumerSession   time.Duration // group.consumer.max.session.timeout.ms, default 60 s
	ConsumerHeartbeat    time.Duration // group.consumer.heartbeat.interval.ms, default 5 s
	MinConsumerHeartbeat time.Duration // group.consumer.min.heartbeat.interval.ms, default 5 s
	MaxConsumerHeartbeat time.Duration // group.consumer.max.heartbeat.interval.ms, default 15 s
	ConsumerMaxSize      int           // group.consumer.max.size, default 10,000 (Kafka: no limit)
	ConsumerAssignors    []string      // group.consumer.assignors, default uniform and range; the first is for members that name none
	Migration            Migration     // group.consumer.migration.policy, default MigrateBoth
	RegexRefresh         time.Duration // group.consumer.regex.refresh.interval.ms, default 10 min
	// AssignmentInterval is the time between two assignments of a group, in which changes
	// are gathered (group.consumer.assignment.interval.ms, Kafka's default is 1 s; it can
	// change at any time). nil: each change makes an assignment at once, for programs that
	// would rather not wait for it.
	AssignmentInterval    func() time.Duration
	MinAssignmentInterval time.Duration // group.consumer.min.assignment.interval.ms, default 0
	MaxAssignmentInterval time.Duration // group.consumer.max.assignment.interval.ms, default 15 s

	// Share has the settings of share groups.
	Share ShareConfig

	// VerifyTxn makes the first transactional commit of a producer to a shard wait
	// for a Verify call to be answered (KIP-890 part 1).
	VerifyTxn bool
}

// set puts a default in the place of a value that is not positive.
func set[T int | time.Duration](v *T, byDefault T) {
	if *v <= 0 {
		*v = byDefault
	}
}

func (c Config) withDefaults() Config {
	set(&c.MinSessionTimeout, 6*time.Second)
	set(&c.MaxSessionTimeout, 30*time.Minute)
	set(&c.OffsetsRetention, 7*24*time.Hour)
	set(&c.RetentionCheck, 10*time.Minute)
	set(&c.ConsumerSession, 45*time.Second)
	set(&c.MinConsumerSession, 45*time.Second)
	set(&c.MaxConsumerSession, 60*time.Second)
	set(&c.ConsumerHeartbeat, 5*time.Second)
	set(&c.MinConsumerHeartbeat, 5*time.Second)
	set(&c.MaxConsumerHeartbeat, 15*time.Second)
	set(&c.RegexRefresh, 10*time.Minute)
	set(&c.MaxAssignmentInterval, 15*time.Second)
	set(&c.MaxSize, 10_000)
	set(&c.ConsumerMaxSize, 10_000)
	if len(c.ConsumerAssignors) == 0 {
		c.ConsumerAssignors = []string{assignorUniform, assignorRange}
	}
	if c.Migration == "" {
		c.Migration = MigrateBoth
	}
	if c.AssignmentInterval == nil {
		c.AssignmentInterval = func() time.Duration { return 0 }
	}
	c.Share = c.Share.withDefaults()
	set(&c.MaxGroups, 100_000)
	set(&c.MaxOffsetMetadata, 4096)
	return c
}

// Migration says which groups with members may change their protocol, with Kafka's names
// for that. Groups without members always may.
type Migration string

// Values of Migration.
const (
	MigrateBoth      Migration = "BIDIRECTIONAL"
	MigrateUpgrade   Migration = "UPGRADE"   // from classic to consumer
	MigrateDowngrade Migration = "DOWNGRADE" // from consumer to classic
	MigrateNone      Migration = "DISABLED"
)

func (m Migration) upgrades() bool   { return m == MigrateBoth || m == MigrateUpgrade }
func (m Migration) downgrades() bool { return m == MigrateBoth || m == MigrateDowngrade }

// newMemberTimeout is how long a new member may wait in its first join: it has no
// member id yet and cannot send heartbeats.
const newMemberTimeout = 5 * time.Minute

// Bounds on what one member may offer: all of it is held, and compared with what the
// others offer. The metadata has to fit a record together with that of the others.
const (
	maxProtocols     = 64
	maxMetadataBytes = 1 << 20
	// maxInstanceID leaves room for the rest of the member id that is made of it: that has to fit a string of the protocol and of
	// the log. (That it is no longer than 249 is a rule of Kafka's clients.)
	maxInstanceID = 1<<15 - 1 - len("-00000000-0000-0000-0000-000000000000")
)

// writeRetry is when a group whose record could not be written tries again.
const writeRetry = time.Second

// state of a group, with Kafka's names.
type state string

const (
	empty      state = "Empty"
	preparing  state = "PreparingRebalance"
	completing state = "CompletingRebalance"
	stable     state = "Stable"
	dead       state = "Dead" // only in answers about groups that do not exist
)

// protocol is one assignment strategy that a member offers, with its opaque
// metadata.
type protocol struct {
	name     string
	metadata []byte
}

// member of a group.
type member struct {
	id               string
	instanceID       *string // static membership, KIP-345
	clientID         string
	clientHost       string
	rebalanceTimeout time.Duration
	sessionTimeout   time.Duration
	protocols        []protocol // in the member's order of preference
	assignment       []byte     // of the settled generation

	join     coordinator.Ref // parked JoinGroup, 0 for none
	joinV    int16           // its version
	sync     coordinator.Ref // parked SyncGroup, 0 for none
	syncV    int16
	isNew    bool      // waits in its first join
	mustSync bool      // joined this generation and has not sent SyncGroup
	expires  time.Time // end of session; zero while a parked request keeps it
}

func (m *member) offers(name string) bool {
	for _, p := range m.protocols {
		if p.name == name {
			return true
		}
	}
	return false
}

func (m *member) metadata(name string) []byte {
	for _, p := range m.protocols {
		if p.name == name {
			return p.metadata
		}
	}
	return nil
}

// group is the conversation of one group.
type group struct {
	id           string
	state        state
	generation   int32
	protocolType string
	protocol     string // chosen for this generation, "" for none
	leader       string // member id, "" for none

	members []*member // by time of joining
	byID    map[string]*member
	static  map[string]*member   // by instance id
	pending map[string]time.Time // member ids given out with MEMBER_ID_REQUIRED, and until when they hold
	// topics are what the members of the generation subscribe to, if that is known.
	topics      map[string]bool
	topicsKnown bool
	incoming    *member // replaces the static member of its instance id when the record that says so is replayed

	joinDeadline time.Time // end of the join phase, zero for none
	syncDeadline time.Time // end of the sync phase
	// The initial delay of a group that was Empty: what may still be added to it
	// when members keep coming.
	initial        bool
	initialLeft    time.Duration
	newMemberAdded bool

	alarm
}

func newGroup(id string) *group {
	return &group{
		id: id, state: empty, alarm: alarm{index: -1},
		byID:    make(map[string]*member),
		static:  make(map[string]*member),
		pending: make(map[string]time.Time),
	}
}

func (g *group) add(m *member) {
	g.members = append(g.members, m)
	g.byID[m.id] = m
	if m.instanceID != nil {
		g.static[*m.instanceID] = m
	}
	if g.leader == "" {
		g.leader = m.id
	}
}

func (g *group) remove(m *member) {
	for i, o := range g.members {
		if o == m {
			g.members = append(g.members[:i:i], g.members[i+1:]...)
			break
		}
	}
	delete(g.byID, m.id)
	if m.instanceID != nil && g.static[*m.instanceID] == m {
		delete(g.static, *m.instanceID)
	}
	if g.leader == m.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

// replace puts next in the place of old, a static member that came back.
func (g *group) replace(old, next *member) {
	for i, o := range g.members {
		if o == old {
			g.members[i] = next
		}
	}
	delete(g.byID, old.id)
	g.byID[next.id] = next
	g.static[*next.instanceID] = next
	if g.leader == old.id {
		g.leader = next.id
	}
}

// supports tells whether a member with these protocols can join: all members must
// have one in common.
func (g *group) supports(protocolType string, offered []protocol) bool {
	if len(g.members) == 0 {
		return protocolType != "" && len(offered) > 0
	}
	if protocolType != g.protocolType {
		return false
	}
	for _, p := range offered {
		all := true
		for _, m := range g.members {
			if !m.offers(p.name) {
				all = false
				break
			}
		}
		if all {
			return true
		}
	}
	return false
}

// choose returns the protocol with the most votes. Each member votes for the first
// of its protocols that all members offer; the order of Java's hash map decides a tie.
func (g *group) choose() string {
	candidates := make(map[string]int)
	for _, m := range g.members {
		seen := make(map[string]bool, len(m.protocols))
		for _, p := range m.protocols {
			if !seen[p.name] {
				seen[p.name] = true
				candidates[p.name]++
			}
		}
	}
	votes := make(map[string]int)
	var voted []string
	for _, m := range g.members {
		for _, p := range m.protocols {
			if candidates[p.name] == len(g.members) {
				if votes[p.name]++; votes[p.name] == 1 {
					voted = append(voted, p.name)
				}
				break
			}
		}
	}
	best := ""
	for _, name := range coordinator.JavaOrder(voted) {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// rebalanceTimeout is how long a join phase lasts: the longest that a member asks for.
func (g *group) rebalanceTimeout() time.Duration {
	var d time.Duration
	for _, m := range g.members {
		d = max(d, m.rebalanceTimeout)
	}
	return d
}

func (g *group) allJoined() bool {
	for _, m := range g.members {
		if m.join == 0 {
			return false
		}
	}
	return len(g.pending) == 0
}

// unused tells that nothing but the ledger knows of the group.
func (g *group) unused() bool {
	return g.state == empty && len(g.members) == 0 && len(g.pending) == 0
}
