package differential

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
)

var (
	kafkaAddr  = flag.String("kafka", "", "address of an Apache Kafka node to compare with")
	restartCmd = flag.String("restart", "", "command that restarts that node; it gets \"stop\" or \"kill\" as its last argument (./kafka PORT)")
	oursAddr   = flag.String("ours", "", "address of a running broker of ours, instead of one that is built and started")
	oursBinary = flag.String("moldau", "", "binary of our server, instead of one that is built")
	sequences  = flag.Int("sequences", 200, "number of sequences")
	firstSeed  = flag.Uint64("seed", 1, "seed of the first sequence")
	themeName  = flag.String("theme", "", "only sequences of these themes, with commas between them")
	workers    = flag.Int("workers", 4, "sequences side by side")
	perKind    = flag.Int("minimize", 1, "differences of one kind to minimize")
	straddle   = flag.Int("straddle", 24, "sequences that one restart of both brokers interrupts")
	every      = flag.Int("every", 400, "sequences between two restarts")
	trace      = flag.Bool("trace", false, "print each answer of Apache Kafka")
	showKnown  = flag.Bool("known", false, "print one difference of each known kind too")
	recordTo   = flag.String("record", "", "file to store what Apache Kafka answers in")
)

// TestAgainstKafka compares with a running Apache Kafka: make differential.
func TestAgainstKafka(t *testing.T) {
	if *kafkaAddr == "" {
		t.Skip("needs a running Apache Kafka: -kafka HOST:PORT (make differential starts one); TestRecordings compares with stored answers")
	}
	ours := &process{addr: *oursAddr}
	if ours.addr == "" {
		ours.build(t)
		ours.start(t)
		defer ours.stop(syscall.SIGTERM)
	}
	d := &duel{t: t, ours: ours, versions: common(t, *kafkaAddr, ours.addr)}
	warm(t, *kafkaAddr)
	warm(t, ours.addr)
	d.number.Store(time.Now().UnixMilli()) // an earlier run may have left groups with the same names otherwise
	began := time.Now()
	d.all()
	kinds := d.report()
	t.Logf("%d sequences, %d requests in %v; %d kinds of differences; %d of differences that did not come again",
		d.done.Load(), d.requests.Load(), time.Since(began).Round(time.Second), kinds, d.flaky.Load())
	if kinds > 0 {
		t.Fail()
	}
}

// TestRecordings asks ours what Apache Kafka was asked, and compares with what it answered then.
func TestRecordings(t *testing.T) {
	all, err := readRecordings(filepath.Join("testdata", "kafka.json.gz"))
	require.NoError(t, err)
	b, err := broker.Start(t.Context(), broker.Config{Listen: []string{"127.0.0.1:0"}, Properties: properties(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	addr := b.Addrs()[0]
	warm(t, addr)
	for i, r := range all {
		t.Run(fmt.Sprintf("%s/%d", r.Sequence.Theme, r.Sequence.Seed), func(t *testing.T) {
			t.Parallel()
			if r.Sequence.Theme == "transactions" {
				t.Skip("its answers depend on when markers are written; a live run waits for both brokers, a recording cannot")
			}
			ours := newLive("ours", addr, r.Sequence, prefix(int64(i)))
			defer ours.close()
			for _, d := range (&run{seq: r.Sequence, sides: []side{playback(r), ours}, park: 5 * time.Millisecond}).do() {
				if d.Known == "" {
					t.Error(d.Report())
				}
			}
		})
	}
}

// properties are what both brokers run with.
func properties(t *testing.T) map[string]string {
	data, err := os.ReadFile(filepath.Join("testdata", "server.properties"))
	require.NoError(t, err)
	all := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && line[0] != '#' {
			all[name] = value
		}
	}
	return all
}

// common are the versions of what both advertise.
func common(t *testing.T, a, b string) versions {
	of := func(addr string) versions {
		resp, err := once(addr, &kmsg.ApiVersionsRequest{Version: 0}, 5*time.Second)
		require.NoError(t, err, addr)
		v := versions{}
		for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
			v[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
		}
		return v
	}
	va, vb := of(a), of(b)
	both := versions{}
	for k, r := range va {
		if o, ok := vb[k]; ok && kmsg.RequestForKey(k) != nil {
			both[k] = [2]int16{max(r[0], o[0]), min(r[1], o[1], kmsg.RequestForKey(k).MaxVersion())}
		}
	}
	return both
}

// warm makes a broker create its own topics, and give away producer id 0, which requests may have by chance.
func warm(t *testing.T, addr string) {
	t.Helper()
	poll(func() bool {
		resp, err := once(addr, &kmsg.InitProducerIDRequest{Version: 2, TransactionTimeoutMillis: 60_000}, 5*time.Second)
		return err == nil && resp.(*kmsg.InitProducerIDResponse).ErrorCode == 0
	})
	for typ := range int8(3) {
		key := "warm"
		if typ == 2 {
			key = "warm:AAAAAAAAAAAAAAAAAAAAAQ:0"
		}
		req := &kmsg.FindCoordinatorRequest{Version: 6, CoordinatorType: typ, CoordinatorKeys: []string{key}}
		poll(func() bool {
			resp, err := once(addr, req, 5*time.Second)
			if err != nil {
				return false
			}
			r := resp.(*kmsg.FindCoordinatorResponse)
			return len(r.Coordinators) == 1 && r.Coordinators[0].ErrorCode != 15
		})
	}
}

// duel runs sequences against both brokers.
type duel struct {
	t        *testing.T
	ours     *process
	versions versions
	number   atomic.Int64
	done     atomic.Int64
	requests atomic.Int64
	flaky    atomic.Int64
	mu       sync.Mutex
	found    map[string][]*Difference
	notes    []string
	records  []*Recording
}

func (d *duel) prefix() string { return prefix(d.number.Add(1)) }

// once runs a sequence on fresh names.
func (d *duel) once(seq *Sequence, restart func(string)) []*Difference {
	prefix := d.prefix()
	kafka := newLive("kafka", *kafkaAddr, seq, prefix)
	ours := newLive("ours", d.ours.addr, seq, prefix)
	defer kafka.close()
	defer ours.close()
	r := &run{seq: seq, sides: []side{kafka, ours}, restart: restart, park: parkAfter}
	if *trace {
		r.trace = func(i int, text []string) {
			d.t.Logf("%2d %s\n      %s", i, seq.Steps[i].show(seq.Vars), strings.Join(text, "\n      "))
		}
	}
	if *recordTo != "" && restart == nil {
		r.record = newRecording(seq)
	}
	found := r.do()
	if r.record != nil && len(found) == 0 && len(seq.Steps) >= 10 {
		d.mu.Lock()
		d.records = append(d.records, r.record)
		d.mu.Unlock()
	}
	d.requests.Add(int64(len(seq.Steps)))
	return found
}

func (d *duel) all() {
	d.found = map[string][]*Difference{}
	seed := *firstSeed
	for left := *sequences; left > 0; {
		n := min(left, *every)
		d.batch(seed, n)
		seed, left = seed+uint64(n), left-n
		if left > 0 && *restartCmd != "" {
			n := min(left, *straddle)
			d.acrossRestart(seed, n)
			seed, left = seed+uint64(n), left-n
		}
	}
}

// batch runs sequences, some side by side.
func (d *duel) batch(seed uint64, n int) {
	seeds := make(chan uint64)
	var wg sync.WaitGroup
	for range *workers {
		wg.Go(func() {
			for s := range seeds {
				d.sequence(generate(s, d.versions, ""), nil)
			}
		})
	}
	for s := range uint64(n) {
		if *themeName == "" || slices.Contains(strings.Split(*themeName, ","), generate(seed+s, d.versions, "").Theme) {
			seeds <- seed + s
		}
	}
	close(seeds)
	wg.Wait()
}

func (d *duel) sequence(seq *Sequence, restart func(string)) {
	found := d.once(seq, restart)
	d.done.Add(1)
	for _, f := range found {
		if f.Known != "" {
			d.keep(fmt.Sprintf("known: %s: %s", kmsg.NameForKey(f.Sequence.Steps[f.Step].Key), f.Known), f)
			continue
		}
		sig := f.signature()
		d.mu.Lock()
		enough := len(d.found[sig]) >= *perKind
		d.mu.Unlock()
		if enough || restart != nil {
			d.keep(sig, f)
			continue
		}
		// Once more, then as short as possible.
		var last *Difference
		again := func(s *Sequence) bool {
			for _, g := range d.once(s, nil) {
				if g.Known == "" && g.signature() == sig {
					last = g
					return true
				}
			}
			return false
		}
		came := false
		for try := 0; try < 2 && !came; try++ {
			came = again(seq)
		}
		if !came {
			d.flaky.Add(1)
			d.mu.Lock()
			d.notes = append(d.notes, fmt.Sprintf("did not come again: %s (seed %d)", sig, seq.Seed))
			d.mu.Unlock()
			continue
		}
		cut := *seq
		cut.Steps = seq.Steps[:last.At+1]
		minimize(&cut, 60, again)
		d.keep(sig, last)
	}
}

func (d *duel) keep(sig string, f *Difference) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found[sig] = append(d.found[sig], f)
}

// acrossRestart runs sequences side by side, all with the same restart in their middle.
func (d *duel) acrossRestart(seed uint64, n int) {
	kind := "stop"
	if seed%2 == 0 {
		kind = "kill"
	}
	var arrived, running sync.WaitGroup
	gate := make(chan struct{})
	arrived.Add(n)
	for s := range uint64(n) {
		running.Go(func() {
			var once sync.Once
			pass := func(string) { once.Do(arrived.Done); <-gate }
			d.sequence(generate(seed+s, d.versions, kind), pass)
			once.Do(arrived.Done) // it ended before
		})
	}
	arrived.Wait()
	d.restart(kind)
	close(gate)
	running.Wait()
}

func (d *duel) restart(kind string) {
	signal := syscall.SIGTERM
	if kind == "kill" {
		signal = syscall.SIGKILL
	}
	d.ours.stop(signal)
	d.ours.start(d.t)
	out, err := exec.Command("sh", "-c", *restartCmd+" "+kind).CombinedOutput()
	require.NoError(d.t, err, "%s: %s", *restartCmd, out)
	for _, addr := range []string{*kafkaAddr, d.ours.addr} {
		warm(d.t, addr)
		loaded(addr)
	}
}

// loaded waits until a broker that was restarted has loaded what its coordinators know: keys enough to meet every partition.
func loaded(addr string) {
	const keys = 60
	groups, txns := kmsg.NewPtrDescribeGroupsRequest(), kmsg.NewPtrDescribeTransactionsRequest()
	groups.Version = 5
	for i := range keys {
		groups.Groups = append(groups.Groups, fmt.Sprint("warm", i))
		txns.TransactionalIDs = append(txns.TransactionalIDs, fmt.Sprint("warm", i))
	}
	for _, req := range []kmsg.Request{groups, txns} {
		poll(func() bool {
			resp, err := once(addr, req, 5*time.Second)
			return err == nil && !slices.ContainsFunc(errorCodes(reflect.ValueOf(resp).Elem(), nil), func(c int16) bool {
				return slices.Contains(retriable, c)
			})
		})
	}
	time.Sleep(time.Second) // partitions come online after their metadata
}

// report prints each kind of difference once, the most frequent first, and returns how many are not known.
func (d *duel) report() int {
	sigs := make([]string, 0, len(d.found))
	for s := range d.found {
		sigs = append(sigs, s)
	}
	slices.SortFunc(sigs, func(a, b string) int { return len(d.found[b]) - len(d.found[a]) })
	unknown := 0
	for _, s := range sigs {
		if strings.HasPrefix(s, "known: ") {
			d.t.Logf("%d times, %s", len(d.found[s]), s)
			if !*showKnown {
				continue
			}
			unknown--
		}
		unknown++
		short := d.found[s][0]
		for _, f := range d.found[s] {
			if f.At < short.At {
				short = f
			}
		}
		d.t.Logf("%d times: %s", len(d.found[s]), short.Report())
	}
	for _, n := range d.notes {
		d.t.Log(n)
	}
	if *recordTo != "" {
		require.NoError(d.t, writeRecordings(*recordTo, d.records))
	}
	return unknown
}

// process is our server as a process of its own, so that it can be killed.
type process struct {
	addr, binary, dir string

	mu       sync.Mutex
	cmd      *exec.Cmd
	ended    chan struct{} // when cmd has
	stopping bool
	crashes  atomic.Int64
}

func (p *process) build(t *testing.T) {
	p.dir = t.TempDir()
	if p.binary = *oursBinary; p.binary == "" {
		p.binary = filepath.Join(p.dir, "moldau")
		out, err := exec.Command("go", "build", "-o", p.binary, "github.com/moldau-stream/moldau/cmd/moldau").CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.addr = l.Addr().String()
	require.NoError(t, l.Close())
}

func (p *process) start(t *testing.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = false
	p.run(t)
}

// run starts the server, and again if it ends by itself: the sequences that are at fault show that as a closed connection.
func (p *process) run(t *testing.T) {
	log, err := os.OpenFile(filepath.Join(os.TempDir(), "differential-moldau.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.Command(p.binary, "server", "--listen", p.addr, "--data", filepath.Join(p.dir, "data"), "--durability", "page-cache",
		"--config", filepath.Join("testdata", "server.properties"))
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		cmd.Wait()
		close(ended)
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.stopping {
			p.crashes.Add(1)
			t.Errorf("our server ended by itself (%v): see %s", cmd.ProcessState, log.Name())
			p.run(t)
		}
	}()
	poll(func() bool {
		_, err := once(p.addr, &kmsg.ApiVersionsRequest{}, time.Second)
		return err == nil
	})
}

func (p *process) stop(signal os.Signal) {
	p.mu.Lock()
	if p.cmd == nil {
		p.mu.Unlock()
		return
	}
	p.stopping = true
	p.cmd.Process.Signal(signal)
	ended := p.ended
	p.mu.Unlock()
	<-ended
}
