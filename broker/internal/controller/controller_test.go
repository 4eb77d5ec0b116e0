package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"
)

// memLog is a metadata log whose commits the test announces.
type memLog struct {
	mu      sync.Mutex
	values  [][]byte
	waiting []func(error)
	auto    bool  // commit at once
	full    error // refuses appends
}

func (l *memLog) Append(values [][]byte) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full != nil {
		return 0, l.full
	}
	l.values = append(l.values, values...)
	return int64(len(l.values) - 1), nil
}

func (l *memLog) OnCommitted(_ int64, done func(error)) {
	if l.auto {
		done(nil)
		return
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, done)
	l.mu.Unlock()
}

func (l *memLog) commit(err error) {
	l.mu.Lock()
	w := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	for _, done := range w {
		done(err)
	}
}

func (l *memLog) Read(f func(int64, []byte) error) error {
	for i, v := range l.values {
		if err := f(int64(i), v); err != nil {
			return err
		}
	}
	return nil
}

// hooks notes what it was told.
type hooks struct {
	c   *Controller
	got []string
}

func (h *hooks) Prepare(next *Image, d Delta) {
	for _, t := range d.Created {
		_, published := h.c.Image().Topic(t.Name)
		h.got = append(h.got, fmt.Sprintf("prepare %s/%d published=%v", t.Name, len(t.Partitions), published))
	}
	for _, e := range d.Extended {
		h.got = append(h.got, fmt.Sprintf("extend %s %d->%d", e.Topic.Name, e.Had, len(e.Topic.Partitions)))
	}
}

func (h *hooks) Published(_ *Image, d Delta) {
	for _, t := range d.Deleted {
		h.got = append(h.got, "delete "+t.Name)
	}
	for _, t := range d.Changed {
		h.got = append(h.got, fmt.Sprint("config ", t.Name, t.Configs))
	}
}

func open(t testing.TB, log *memLog) (*Controller, *hooks) {
	q := NewLocal(log)
	h := &hooks{}
	c := New(q, h)
	h.c = c
	_, err := c.Load()
	require.NoError(t, err)
	t.Cleanup(q.Close)
	return c, h
}

var nextID byte

func testRules() Rules {
	return Rules{NodeID: 1, DefaultPartitions: 1, MaxPartitions: 10, MaxTotalPartitions: 30, NewTopicID: func() TopicID { nextID++; return TopicID{0: nextID} },
		CheckConfigs: plainRules{}.Check}
}

// plainRules know retention.ms, and the list names.
type plainRules struct{}

func (plainRules) List(name string) (string, bool) { return "a", name == "names" }
func (plainRules) Check(next map[string]string) error {
	for name := range next {
		if name == "nope" {
			return &Error{kerr.InvalidConfig, "Unknown topic config name: nope"}
		}
	}
	return nil
}

func create(c *Controller, name string, partitions int32, done func(error)) {
	c.Update(func(img *Image) ([]Record, error) {
		return Create(img, NewTopic{Name: name, Partitions: partitions, Replication: -1}, testRules())
	}, done)
}

// answers collects what updates were answered.
type answers struct {
	mu   sync.Mutex
	more sync.Cond
	errs []error
}

func newAnswers() *answers { a := &answers{}; a.more.L = &a.mu; return a }

func (a *answers) done(err error) {
	a.mu.Lock()
	a.errs = append(a.errs, err)
	a.more.Broadcast()
	a.mu.Unlock()
}

func (a *answers) await(n int) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.errs) < n {
		a.more.Wait()
	}
	return a.errs
}

func TestAnswerAndImageWaitForTheCommit(t *testing.T) {
	log := &memLog{}
	c, h := open(t, log)
	a := newAnswers()
	create(c, "a", 2, a.done)
	create(c, "a", 2, a.done) // sees the proposal
	require.Len(t, a.await(1), 1, "only the refusal is answered")
	require.ErrorIs(t, a.errs[0], kerr.TopicAlreadyExists)
	require.Zero(t, c.Image().NumTopics())

	nothing := false
	c.Update(func(img *Image) ([]Record, error) {
		_, nothing = img.Topic("a")
		return nil, nil
	}, a.done)
	require.True(t, nothing)
	require.Len(t, a.await(1), 1, "an answer that depends on a proposal waits for it, too")

	log.commit(nil)
	require.Equal(t, []error{nil, nil}, a.await(3)[1:])
	topic, ok := c.Image().Topic("a")
	require.True(t, ok)
	require.Len(t, topic.Partitions, 2)
	require.Equal(t, []string{"prepare a/2 published=false"}, h.got)
}

func TestFailedAppendChangesNothing(t *testing.T) {
	log := &memLog{auto: true, full: errors.New("disk full")}
	c, _ := open(t, log)
	a := newAnswers()
	create(c, "a", 1, a.done)
	require.ErrorContains(t, a.await(1)[0], "disk full")
	log.full = nil
	create(c, "a", 1, a.done)
	require.NoError(t, a.await(2)[1])
	require.Equal(t, 1, c.Image().NumTopics())
}

func TestFailedCommitEndsTheService(t *testing.T) {
	log := &memLog{}
	c, _ := open(t, log)
	a := newAnswers()
	create(c, "a", 1, a.done)
	create(c, "b", 1, a.done)
	log.commit(errors.New("fsync failed"))
	for _, err := range a.await(2) {
		require.ErrorContains(t, err, "fsync failed")
	}
	called := false
	c.Update(func(*Image) ([]Record, error) { called = true; return nil, nil }, a.done)
	require.Error(t, a.await(3)[2])
	require.True(t, called, "answers are built in the operation")
	require.Zero(t, c.Image().NumTopics())
}

func TestLoadNamesInterruptedDeletions(t *testing.T) {
	log := &memLog{auto: true}
	c, _ := open(t, log)
	a := newAnswers()
	for i, name := range []string{"gone", "again", "kept"} {
		create(c, name, 1, a.done)
		a.await(i + 1)
	}
	for _, name := range []string{"gone", "again"} {
		c.Update(func(img *Image) ([]Record, error) {
			t, _ := img.Topic(name)
			return Delete(img, t.ID)
		}, a.done)
	}
	create(c, "again", 1, a.done)
	a.await(6)
	again := New(NewLocal(log), &hooks{c: c})
	removed, err := again.Load()
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"gone": true}, removed)
	again.quorum.(*Local).Close()
}

func TestElectionRaisesEveryEpoch(t *testing.T) {
	log := &memLog{auto: true}
	c, _ := open(t, log)
	a := newAnswers()
	create(c, "a", 3, a.done)
	c.Elect(1, a.done)
	require.NoError(t, a.await(2)[1])
	again, _ := open(t, log)
	topic, _ := again.Image().Topic("a")
	for _, p := range topic.Partitions {
		require.Equal(t, Partition{Leader: 1, LeaderEpoch: 1, PartitionEpoch: 1, Replicas: []int32{1}, ISR: []int32{1}, Directories: []TopicID{{}}}, p)
	}
}

func TestProducerIDsAreNeverGivenTwice(t *testing.T) {
	log := &memLog{auto: true}
	c, _ := open(t, log)
	var mu sync.Mutex
	seen := map[int64]bool{}
	var all sync.WaitGroup
	for range 20 {
		all.Add(1)
		go c.AllocateProducerIDs(1, 1000, func(first int64, err error) {
			defer all.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[first] || first%1000 != 0 {
				t.Errorf("block at %d: %v, seen %v", first, err, seen[first])
			}
			seen[first] = true
		})
	}
	all.Wait()
	require.EqualValues(t, 20_000, c.Image().NextProducerID())
	again, _ := open(t, log)
	require.EqualValues(t, 20_000, again.Image().NextProducerID())
}

func TestNewTopicsAreChecked(t *testing.T) {
	log := &memLog{auto: true}
	c, _ := open(t, log)
	a := newAnswers()
	create(c, "taken", 3, a.done)
	create(c, "with.dot", 1, a.done)
	a.await(2)
	img := c.Image()
	for name, tc := range map[string]struct {
		topic NewTopic
		want  *kerr.Error
	}{
		"exists":        {NewTopic{Name: "taken", Partitions: 1, Replication: 1}, kerr.TopicAlreadyExists},
		"empty name":    {NewTopic{Partitions: 1, Replication: 1}, kerr.InvalidTopicException},
		"dots":          {NewTopic{Name: "..", Partitions: 1, Replication: 1}, kerr.InvalidTopicException},
		"slash":         {NewTopic{Name: "a/b", Partitions: 1, Replication: 1}, kerr.InvalidTopicException},
		"collision":     {NewTopic{Name: "with_dot", Partitions: 1, Replication: 1}, kerr.InvalidTopicException},
		"metadata":      {NewTopic{Name: MetadataTopic, Partitions: 1, Replication: 1}, kerr.InvalidRequest},
		"no partitions": {NewTopic{Name: "x", Partitions: 0, Replication: 1}, kerr.InvalidPartitions},
		"very many":     {NewTopic{Name: "x", Partitions: 10_001, Replication: 1}, kerr.PolicyViolation},
		"many":          {NewTopic{Name: "x", Partitions: 11, Replication: 1}, kerr.InvalidPartitions},
		"replication":   {NewTopic{Name: "x", Partitions: 1, Replication: 2}, kerr.InvalidReplicationFactor},
		"both":          {NewTopic{Name: "x", Partitions: 1, Replication: -1, Assignments: []Assignment{{0, []int32{1}}}}, kerr.InvalidRequest},
		"gap":           {NewTopic{Name: "x", Partitions: -1, Replication: -1, Assignments: []Assignment{{0, []int32{1}}, {2, []int32{1}}}}, kerr.InvalidReplicaAssignment},
		"stranger":      {NewTopic{Name: "x", Partitions: -1, Replication: -1, Assignments: []Assignment{{0, []int32{7}}}}, kerr.InvalidReplicaAssignment},
		"config":        {NewTopic{Name: "x", Partitions: 1, Replication: 1, Configs: map[string]string{"nope": "1"}}, kerr.InvalidConfig},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Create(img, tc.topic, testRules())
			require.ErrorIs(t, err, tc.want)
		})
	}
	_, err := Create(img, NewTopic{Name: "x", Partitions: -1, Replication: -1, Assignments: []Assignment{{0, []int32{1}}, {1, []int32{1}}}}, testRules())
	require.NoError(t, err)
}

// TestReplayGivesTheSameImage does random operations and compares the image with that of a controller that replays the log.
func TestReplayGivesTheSameImage(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		log := &memLog{auto: true}
		c, _ := open(t, log)
		a := newAnswers()
		n := 0
		op := func(f func(*Image) ([]Record, error)) {
			c.Update(f, a.done)
			n++
			a.await(n)
		}
		name := rapid.SampledFrom([]string{"a", "b", "c.d", "c_d", "c_d.e", "c.d_e"})
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			topic := name.Draw(rt, "topic")
			switch rapid.IntRange(0, 4).Draw(rt, "kind") {
			case 0:
				op(func(img *Image) ([]Record, error) {
					return Create(img, NewTopic{Name: topic, Partitions: rapid.Int32Range(1, 3).Draw(rt, "n"), Replication: 1, Configs: map[string]string{"retention.ms": "5"}}, testRules())
				})
			case 1:
				op(func(img *Image) ([]Record, error) {
					return Extend(img, topic, rapid.Int32Range(1, 6).Draw(rt, "n"), nil, testRules())
				})
			case 2:
				op(func(img *Image) ([]Record, error) {
					v := fmt.Sprint(rapid.IntRange(1, 9).Draw(rt, "v"))
					return AlterConfigs(img, Resource{ResourceTopic, topic}, []ConfigChange{{Name: "retention.ms", Op: int8(rapid.IntRange(0, 1).Draw(rt, "op")), Value: &v}}, plainRules{})
				})
			case 3:
				op(func(img *Image) ([]Record, error) {
					t, ok := img.Topic(topic)
					if !ok {
						return nil, nil
					}
					return Delete(img, t.ID)
				})
			case 4:
				op(func(img *Image) ([]Record, error) {
					t, ok := img.Topic(topic)
					if !ok {
						return nil, nil
					}
					return []Record{&PartitionChangeRecord{TopicID: t.ID, Leader: rapid.Int32Range(-1, 1).Draw(rt, "leader")}}, nil
				})
			}
		}
		again, _ := open(t, log)
		require.Equal(rt, dump(c.Image()), dump(again.Image()))
		require.Equal(rt, int64(len(log.values)-1), again.Image().Offset())
		requireDerived(rt, c.Image())
		requireDerived(rt, again.Image())
	})
}

// requireDerived recomputes from the topics what the image keeps beside them.
func requireDerived(t require.TestingT, img *Image) {
	partitions, byMetric := 0, map[string]bool{}
	for topic := range img.Topics() {
		require.Same(t, topic, img.byID[topic.ID])
		partitions += len(topic.Partitions)
		if name := strings.ReplaceAll(topic.Name, ".", "_"); strings.Contains(name, "_") {
			byMetric[name] = true
			require.Contains(t, img.byMetric[name], topic.Name)
		}
	}
	require.Len(t, img.byID, img.NumTopics())
	require.Equal(t, partitions, img.NumPartitions())
	require.Equal(t, slices.Sorted(maps.Keys(byMetric)), slices.Sorted(maps.Keys(img.byMetric)))
}

// A damaged or foreign log may create a name or an id twice: the last one counts, and each topic can be deleted.
func TestTopicThatIsCreatedTwice(t *testing.T) {
	one, two := TopicID{1}, TopicID{2}
	d := NewDraft(emptyImage())
	d.Add([]Record{
		&TopicRecord{Name: "a.b", TopicID: one}, &PartitionRecord{TopicID: one},
		&TopicRecord{Name: "a.b", TopicID: two}, &PartitionRecord{TopicID: two}, &PartitionRecord{TopicID: two, PartitionID: 1},
		&TopicRecord{Name: "c.d", TopicID: two}, &PartitionRecord{TopicID: two},
	})
	requireDerived(t, d.Image())
	require.Equal(t, 1, d.Image().NumTopics())
	require.Equal(t, 1, d.Image().NumPartitions())
	d.Add([]Record{&RemoveTopicRecord{TopicID: one}, &RemoveTopicRecord{TopicID: two}})
	requireDerived(t, d.Image())
	require.Zero(t, d.Image().NumTopics())
}

// What a draft has done counts for what it does next, as in a request for many topics.
func TestDraftSeesItsOwnTopics(t *testing.T) {
	rules := testRules()
	base := emptyImage()
	d := NewDraft(base)
	recs, err := Create(d.Image(), NewTopic{Name: "a.b", Partitions: 2, Replication: 1}, rules)
	require.NoError(t, err)
	d.Add(recs)
	_, err = Create(d.Image(), NewTopic{Name: "a_b", Partitions: 1, Replication: 1}, rules)
	require.ErrorIs(t, err, kerr.InvalidTopicException)
	rules.MaxTotalPartitions = 2
	_, err = Create(d.Image(), NewTopic{Name: "x", Partitions: 1, Replication: 1}, rules)
	require.ErrorIs(t, err, kerr.PolicyViolation)

	recs, err = Delete(d.Image(), recs[0].(*TopicRecord).TopicID)
	require.NoError(t, err)
	d.Add(recs)
	_, err = Create(d.Image(), NewTopic{Name: "a_b", Partitions: 2, Replication: 1}, rules)
	require.NoError(t, err)
	requireDerived(t, d.Image())
	requireDerived(t, base)
}

func dump(img *Image) []Topic {
	var out []Topic
	for t := range img.Topics() {
		if len(t.Configs) == 0 {
			t = &Topic{Name: t.Name, ID: t.ID, Partitions: t.Partitions}
		}
		out = append(out, *t)
	}
	return out
}

func TestRecordsRoundTrip(t *testing.T) {
	value, yes := "v", true
	for _, r := range []Record{
		&TopicRecord{Name: "t", TopicID: TopicID{1, 2, 3}},
		&PartitionRecord{PartitionID: 4, TopicID: TopicID{9}, Replicas: []int32{1, 2}, ISR: []int32{2}, Leader: 2, LeaderEpoch: 5, PartitionEpoch: 6},
		&ConfigRecord{ResourceType: 2, ResourceName: "t", Name: "n", Value: &value},
		&ConfigRecord{ResourceType: 2, ResourceName: "t", Name: "n"},
		&PartitionRecord{TopicID: TopicID{9}, Replicas: []int32{1}, ISR: []int32{1}, Removing: []int32{3}, Adding: []int32{4}, Recovering: true,
			Directories: []TopicID{{5}}, ELR: []int32{6}, LastKnownELR: []int32{7}},
		&PartitionChangeRecord{Leader: NoLeaderChange, Removing: []int32{}, Adding: []int32{4}, Recovering: &yes, ELR: []int32{},
			LastKnownELR: []int32{7}, Directories: []TopicID{{8}}},
		&RegisterBrokerRecord{BrokerID: 1, Incarnation: TopicID{4}, BrokerEpoch: 5, Endpoints: []Endpoint{{"PLAINTEXT", "h", 9092, 0}},
			Features: SupportedFeatures(), Rack: &value, Fenced: true, InShutdown: true, Directories: []TopicID{{1}}, CordonedDirectories: []TopicID{}},
		&RegisterBrokerRecord{BrokerID: 2},
		&BrokerRegistrationChangeRecord{BrokerID: 1, BrokerEpoch: 5, Fenced: -1, InShutdown: 1, Directories: []TopicID{{1}}, CordonedDirectories: []TopicID{}},
		&BrokerRegistrationChangeRecord{BrokerID: 1, BrokerEpoch: 5, Fenced: 1},
		&UnregisterBrokerRecord{BrokerID: 1, BrokerEpoch: 5},
		&UserScramCredentialRecord{User: "u", Mechanism: ScramSHA512, ScramCredential: ScramCredential{[]byte{1}, []byte{2}, []byte{}, 4096}},
		&RemoveUserScramCredentialRecord{User: "u", Mechanism: ScramSHA256},
		&ClientQuotaRecord{Entity: QuotaEntity{User: QuotaName{Kind: QuotaDefault}, ClientID: QuotaName{QuotaNamed, "c"}}, Key: "k", Value: 1.5},
		&ClientQuotaRecord{Entity: QuotaEntity{IP: QuotaName{QuotaNamed, ""}}, Key: "k", Remove: true},
		&NoOpRecord{}, &BeginTransactionRecord{Name: &value}, &BeginTransactionRecord{}, &EndTransactionRecord{}, &AbortTransactionRecord{Reason: &value},
		&PartitionChangeRecord{PartitionID: 1, TopicID: TopicID{7}, ISR: []int32{1}, Leader: -1, Replicas: []int32{3}},
		&PartitionChangeRecord{PartitionID: 1, TopicID: TopicID{7}, Leader: NoLeaderChange},
		&RemoveTopicRecord{TopicID: TopicID{8}},
		&FeatureLevelRecord{Name: "f", Level: 3},
		&ProducerIDsRecord{BrokerID: 1, BrokerEpoch: 2, NextProducerID: 3000},
	} {
		b := Encode(nil, r)
		got, err := Decode(b)
		require.NoError(t, err)
		require.Equal(t, r, got)
		for cut := range b {
			_, err := Decode(b[:cut])
			require.Error(t, err, "%T cut at %d", r, cut)
		}
	}
	// Of a later version or kind: refused, not guessed at.
	_, err := Decode([]byte{1, 2, 9, 0})
	require.ErrorContains(t, err, "newer version")
	_, err = Decode([]byte{2, 2, 0, 0})
	require.ErrorContains(t, err, "newer version")
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(nil, &PartitionRecord{Replicas: []int32{1}, ISR: []int32{1}}))
	f.Add(Encode(nil, &PartitionChangeRecord{ISR: []int32{1}, Leader: 4}))
	f.Add([]byte{1, 3, 0, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil || r == nil {
			return
		}
		again, err := Decode(Encode(nil, r))
		require.NoError(t, err)
		require.Equal(t, Encode(nil, r), Encode(nil, again))
	})
}
