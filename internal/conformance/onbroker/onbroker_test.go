package onbroker

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/internal/conformance"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// patience bounds waits for things that must happen.
const patience = 60 * time.Second

// TestOnBroker runs some scenarios of each family.
//
//	MOLDAU_CONFORMANCE_EACH=10        how many of each family (default 1; 0: all)
//	MOLDAU_CONFORMANCE_SEED=7         which ones
//	MOLDAU_CONFORMANCE_BROKERS=h:p    on this cluster, of Apache Kafka for example, instead of the embedded broker
//
// and the variables of conformance.TestConformance that choose scenarios.
func TestOnBroker(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	all, err := conformance.Corpora("../testdata/corpus.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	chosen := choose(t, all)
	families := map[string][2]int{} // equal, total
	var names []string
	equal := 0
	for _, s := range chosen {
		differences, err := attempt(t, s)
		if err != nil {
			differences = append(differences, err.Error())
		}
		if !slices.Contains(names, s.Family) {
			names = append(names, s.Family)
		}
		n := families[s.Family]
		n[1]++
		if len(differences) == 0 {
			n[0]++
			equal++
		}
		families[s.Family] = n
		for i, d := range differences {
			if i == 6 {
				t.Logf("%s: ... and %d differences more", s.ID, len(differences)-i)
				break
			}
			t.Errorf("%s: %s", s.ID, d)
		}
	}
	for _, f := range names {
		fmt.Printf("%-18s %3d of %d\n", f, families[f][0], families[f][1])
	}
	fmt.Printf("conformance on a broker: %d of %d scenarios equal\n", equal, len(chosen))
}

func number(t *testing.T, name string, or int64) int64 {
	v := os.Getenv(name)
	if v == "" {
		return or
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		t.Fatal(name, err)
	}
	return n
}

// choose takes some scenarios of each family.
func choose(t *testing.T, all []*conformance.Scenario) []*conformance.Scenario {
	each, seed := number(t, "MOLDAU_CONFORMANCE_EACH", 1), number(t, "MOLDAU_CONFORMANCE_SEED", 1)
	byFamily := map[string][]*conformance.Scenario{}
	var families []string
	for _, s := range all {
		if byFamily[s.Family] == nil {
			families = append(families, s.Family)
		}
		byFamily[s.Family] = append(byFamily[s.Family], s)
	}
	var chosen []*conformance.Scenario
	for _, f := range families {
		h := fnv.New64a()
		h.Write([]byte(f))
		some := byFamily[f]
		r := rand.New(rand.NewPCG(uint64(seed), h.Sum64()))
		r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		if each > 0 && int64(len(some)) > each {
			some = some[:each]
		}
		chosen = append(chosen, some...)
	}
	return chosen
}

// run is a scenario on a cluster.
type run struct {
	s        *conformance.Scenario
	appID    string
	topology *stream.Topology
	client   *kgo.Client // writes, and asks
	admin    *kadm.Client
	reader   *kgo.Client // of everything that the application writes
	written  []string
	read     map[string][]*kgo.Record
	next     map[string]int64 // behind what was read, control records included
	internal []string         // topics that the application reads and writes
	sent     map[string]int64 // behind the records of input topics
}

var runs atomic.Int64

func attempt(t *testing.T, s *conformance.Scenario) (differences []string, err error) {
	p, err := conformance.Interpret(s)
	if err != nil {
		return nil, err
	}
	topology, written := p.Topology, p.Written
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := &run{s: s, topology: topology, written: written, appID: "app", read: map[string][]*kgo.Record{}, next: map[string]int64{}, sent: map[string]int64{}}
	var opts []kgo.Opt
	var seeds []string
	external := os.Getenv("MOLDAU_CONFORMANCE_BROKERS")
	if external != "" {
		seeds = strings.Split(external, ",")
		r.appID = fmt.Sprintf("conformance-%d-%d", time.Now().UnixNano(), runs.Add(1))
	} else {
		b := brokertest.New(t)
		defer b.Close()
		seeds = []string{broker.InProcessAddr}
		opts = append(opts, kgo.Dialer(b.DialContext))
	}
	base := append([]kgo.Opt{kgo.SeedBrokers(seeds...), kgo.MetadataMinAge(20 * time.Millisecond)}, opts...)
	if r.client, err = kgo.NewClient(append(base, kgo.RecordPartitioner(kgo.ManualPartitioner()))...); err != nil {
		return nil, err
	}
	defer r.client.Close()
	r.admin = kadm.NewClient(r.client)
	if err := r.topics(ctx, external != ""); err != nil {
		return nil, err
	}
	if external != "" {
		defer r.remove()
	}

	var clock atomic.Int64
	clock.Store(conformance.Start().UnixMilli())
	app, err := stream.New(topology, stream.Config{
		AppID: r.appID, Brokers: seeds, StateDir: t.TempDir(), Workers: 1, CommitInterval: time.Millisecond,
		EmitPerUpdate: true, Client: opts,
		Topics: stream.TopicDefaults{ReplicationFactor: 1},
		Now:    func() time.Time { return time.UnixMilli(clock.Load()) },
	})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancelCause(ctx)
	var done sync.WaitGroup
	var failed error
	done.Go(func() {
		failed = app.Run(running)
		stop(fmt.Errorf("the application ended: %w", failed))
	})
	defer func() {
		stop(errors.New("done"))
		done.Wait()
		if err == nil && failed != nil {
			err = fmt.Errorf("the application failed: %w", failed)
		}
	}()
	select {
	case <-app.Ready():
	case <-running.Done():
		return nil, fmt.Errorf("the application is not ready: %w", context.Cause(running))
	}
	for _, name := range topology.RepartitionTopics() {
		r.internal = append(r.internal, r.appID+"-"+name)
	}
	topics := slices.Concat(written, r.internal)
	for _, name := range topology.ChangelogTopics() {
		topics = append(topics, r.appID+"-"+name)
	}
	at := map[string]map[int32]kgo.Offset{}
	for _, name := range topics {
		at[name] = map[int32]kgo.Offset{0: kgo.NewOffset().At(0)}
	}
	if r.reader, err = kgo.NewClient(append(base, kgo.ConsumePartitions(at), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(20*time.Millisecond))...); err != nil {
		return nil, err
	}
	defer r.reader.Close()

	seen := map[string]int{}
	for i, step := range s.Steps {
		if step.Advance != nil {
			clock.Add(*step.Advance)
			err = r.punctuated(running, app)
		} else {
			err = r.send(running, app, step.Record())
		}
		if err == nil {
			err = r.settle(running)
		}
		if err != nil {
			return differences, fmt.Errorf("step %d: %w", i, errors.Join(err, context.Cause(running)))
		}
		for _, name := range written {
			var want []conformance.Record
			for _, e := range s.Expect[i] {
				if e.Topic == name {
					want = append(want, e)
				}
			}
			got := records(name, r.read[name][seen[name]:])
			seen[name] = len(r.read[name])
			differences = append(differences, compare(fmt.Sprintf("step %d, topic %s", i, name), want, got)...)
		}
	}
	for name, want := range p.Contents(t) {
		// The cluster has a commit a moment before the stores of the task do, which then answers.
		now, err := p.Query(running, app, name, want, state.Uncommitted())
		var committed []conformance.Row
		if err == nil {
			committed, err = p.Query(running, app, name, want)
		}
		if err != nil {
			return differences, fmt.Errorf("store %s: %w", name, err)
		}
		differences = append(differences, conformance.Differences("store "+name, want, now)...)
		differences = append(differences, conformance.Differences("store "+name+", committed", want, committed)...)
	}
	for name, want := range s.Changelogs {
		var all []conformance.ChangelogRecord
		for _, rec := range r.read[r.appID+"-"+name+"-changelog"] {
			all = append(all, conformance.ChangelogRecord{Key: rec.Key, Value: rec.Value, Time: rec.Timestamp.UnixMilli()})
		}
		differences = append(differences, conformance.Differences("changelog of "+name, want, s.Compact(name, all))...)
	}
	return differences, nil
}

// compare compares the sequence of each key.
func compare(what string, want, got []conformance.Record) []string {
	key := func(r conformance.Record) string {
		if r.Key == nil {
			return "null"
		}
		return strconv.Quote(*r.Key)
	}
	byKey := func(all []conformance.Record) map[string][]conformance.Record {
		m := map[string][]conformance.Record{}
		for _, r := range all {
			m[key(r)] = append(m[key(r)], r)
		}
		return m
	}
	w, g := byKey(want), byKey(got)
	for k := range g {
		if _, ok := w[k]; !ok {
			w[k] = nil
		}
	}
	var differences []string
	for k, want := range w {
		differences = append(differences, conformance.InOrder(what+", key "+k, want, g[k])...)
	}
	return differences
}

func raw(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}

func records(topic string, all []*kgo.Record) []conformance.Record {
	text := func(b []byte) *string {
		if b == nil {
			return nil
		}
		s := string(b)
		return &s
	}
	var out []conformance.Record
	for _, r := range all {
		e := conformance.Record{Topic: topic, Key: text(r.Key), Value: text(r.Value), TS: r.Timestamp.UnixMilli()}
		for _, h := range r.Headers {
			e.Headers = append(e.Headers, [2]string{h.Key, string(h.Value)})
		}
		out = append(out, e)
	}
	return out
}

// inputs are the topics that the scenario sends to or reads.
func (r *run) inputs() []string {
	names := r.s.Reads()
	for _, s := range r.s.Steps {
		if s.Topic != "" && !slices.Contains(names, s.Topic) {
			names = append(names, s.Topic)
		}
	}
	return names
}

// topics makes the topics that the application does not make itself.
func (r *run) topics(ctx context.Context, external bool) error {
	names := slices.Concat(r.inputs(), r.written)
	if external {
		r.remove()
	}
	for _, name := range names {
		for {
			resp, err := r.admin.CreateTopic(ctx, 1, 1, nil, name)
			if err == nil {
				err = resp.Err
			}
			if err == nil {
				if err = r.known(ctx, name, resp.ID); err != nil {
					return err
				}
				break
			}
			if !external || ctx.Err() != nil || !strings.Contains(err.Error(), "TOPIC_ALREADY_EXISTS") { // being deleted
				return fmt.Errorf("create topic %s: %w", name, err)
			}
		}
	}
	return nil
}

// known waits until the broker knows of a topic what its controller knows.
func (r *run) known(ctx context.Context, name string, id kadm.TopicID) error {
	for {
		all, err := r.admin.Metadata(ctx, name)
		if err != nil {
			return fmt.Errorf("wait for topic %s: %w", name, err)
		}
		if t := all.Topics[name]; t.Err == nil && t.ID == id {
			return nil
		}
	}
}

// remove takes the topics away from a cluster that goes on.
func (r *run) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	names := slices.Concat(r.inputs(), r.written, r.internal)
	for _, name := range r.topology.ChangelogTopics() {
		names = append(names, r.appID+"-"+name)
	}
	r.admin.DeleteTopics(ctx, names...) // what is not there cannot be deleted
}

// send writes a record. That of a global table is then in it.
func (r *run) send(ctx context.Context, app *stream.App, in conformance.Record) error {
	rec := &kgo.Record{Topic: in.Topic, Key: raw(in.Key), Value: raw(in.Value), Timestamp: time.UnixMilli(in.TS)}
	for _, h := range in.Headers {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	if err := r.client.ProduceSync(ctx, rec).FirstErr(); err != nil {
		return err
	}
	r.sent[in.Topic] = rec.Offset + 1
	return r.global(ctx, app, in)
}

// punctuated waits until what is due on the clock was called, and is committed. A query of what is not yet committed is answered
// between two looks at the clock, so the second answer comes after one; and what the processors do when they are called shows in
// their stores.
func (r *run) punctuated(ctx context.Context, app *stream.App) error {
	read := func(h state.KV[stream.Opt[string], stream.Opt[string]], opts ...state.QueryOption) (string, error) {
		q, err := state.Query(ctx, app, h, opts...)
		if err != nil {
			return "", err
		}
		var s strings.Builder
		all := q.All()
		for k, v := range all.All() {
			fmt.Fprintf(&s, "%q=%q ", k.Or(""), v.Or(""))
		}
		return s.String(), all.Err()
	}
	for _, h := range r.s.ByClock() {
		for committed := ""; ; {
			if _, err := read(h, state.Uncommitted()); err != nil {
				return err
			}
			now, err := read(h, state.Uncommitted())
			if err == nil {
				committed, err = read(h)
			}
			if err != nil {
				return err
			}
			if now == committed {
				break
			}
		}
	}
	return nil
}

// global waits until a record of a global table is in it.
func (r *run) global(ctx context.Context, app *stream.App, rec conformance.Record) error {
	h, ok := r.s.GlobalStore(rec.Topic)
	if !ok || rec.Key == nil {
		return nil
	}
	for {
		q, err := state.Query(ctx, app, h)
		if err != nil {
			return err
		}
		v, there, err := q.Get(stream.Some(*rec.Key))
		if err != nil {
			return err
		}
		if text, _ := v.Get(); there == (rec.Value != nil) && (!there || text == *rec.Value) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the global table of %s does not have its record: %w", rec.Topic, context.Cause(ctx))
		}
		runtime.Gosched()
	}
}

// settle waits until the application has committed all its input, what it wrote to internal topics included, and reads
// what it has written.
func (r *run) settle(ctx context.Context) error {
	for {
		committed, err := r.admin.FetchOffsets(ctx, r.appID)
		if err != nil {
			return err
		}
		at := func(topic string) int64 {
			o, ok := committed.Lookup(topic, 0)
			if !ok {
				return 0
			}
			return o.At
		}
		behind := false
		for _, topic := range r.s.Reads() {
			if _, global := r.s.GlobalStore(topic); !global {
				behind = behind || r.sent[topic] > at(topic)
			}
		}
		if err := r.catchUp(ctx); err != nil {
			return err
		}
		for _, topic := range r.internal {
			if all := r.read[topic]; len(all) > 0 {
				behind = behind || all[len(all)-1].Offset >= at(topic)
			}
		}
		if !behind {
			return nil
		}
	}
}

// catchUp reads all topics to their ends.
func (r *run) catchUp(ctx context.Context) error {
	var topics []string
	topics = append(topics, r.written...)
	topics = append(topics, r.internal...)
	for _, name := range r.topology.ChangelogTopics() {
		topics = append(topics, r.appID+"-"+name)
	}
	if len(topics) == 0 {
		return nil
	}
	ends, err := r.admin.ListEndOffsets(ctx, topics...) // of open transactions too: they will end
	if err != nil {
		return err
	}
	for {
		left := false
		for _, name := range topics {
			if end, ok := ends.Lookup(name, 0); ok && end.Offset > r.next[name] {
				left = true
			}
		}
		if !left {
			return nil
		}
		fetches := r.reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return err
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			r.next[rec.Topic] = rec.Offset + 1
			if !rec.Attrs.IsControl() {
				r.read[rec.Topic] = append(r.read[rec.Topic], rec)
			}
		})
	}
}
