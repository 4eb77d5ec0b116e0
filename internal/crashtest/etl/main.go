// Command etl runs franz-go's end-to-end tests while the server is killed with SIGKILL at random moments and started again. Every
// record has to come out: of the chains of transactions exactly once, of the chains of groups and share groups at least once.
//
//	kgo.test --> proxy --> moldau server, one process after the other, on one directory
//	               |              ^
//	             reset         SIGKILL
//
// At a kill the proxy resets the clients' connections, and lets new ones wait until the next process serves. Without it franz-go would
// sometimes see an orderly end in front of the first answer, which it takes for a server that wants a login, and refused connections,
// which it takes for a broker that is gone: to its tests both are fatal, and neither says anything about what the server kept.
//
//	go run ./internal/crashtest/etl -kills 50
//
// The tests are those of the module's version of franz-go, built from the module cache with a few changes (see changes). They run in turns until there were as many
// kills as asked for, all of them while a test ran. The logs and the data of a failure are kept.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// sessions is how long members of the tests' groups live without a sign of life, and a little.
const sessions = 23 * time.Second

type settings struct {
	kills   int
	seed    uint64
	mean    time.Duration
	records int
	tests   []string
	listen  string
	timeout time.Duration
	log     string
}

func main() {
	var s settings
	flag.IntVar(&s.kills, "kills", 50, "kills at least")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "seed of the moments of the kills")
	flag.DurationVar(&s.mean, "mean", 5*time.Second, "mean time that a server lives, but for some that live longer")
	flag.IntVar(&s.records, "records", 50_000, "records of each test")
	flag.StringVar(&s.listen, "listen", "127.0.0.1:0", "address of the proxy")
	flag.DurationVar(&s.timeout, "timeout", 15*time.Minute, "limit of one test")
	flag.StringVar(&s.log, "log", "none", "what the clients log: none, info or debug")
	tests := flag.String("tests", "TestTxnEtl,TestGroupETL,TestShareGroupETL", "tests of franz-go, in turns")
	flag.Parse()
	s.tests = strings.Split(*tests, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "etl:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) (err error) {
	dir, err := os.MkdirTemp("", "moldau-etl-")
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = os.RemoveAll(dir)
		} else {
			err = fmt.Errorf("%w; the logs and the data are in %s", err, dir)
		}
	}()
	if err := build(ctx, dir); err != nil {
		return err
	}
	p, err := newProxy(s.listen)
	if err != nil {
		return err
	}
	defer p.close()
	k := &killer{dir: dir, proxy: p, rng: rand.New(rand.NewPCG(s.seed, 1)), mean: s.mean}
	if err := k.start(); err != nil {
		return err
	}
	defer func() { _ = k.server.kill() }()
	fmt.Printf("etl: seed %d, in %s\n", s.seed, dir)
	began, rounds := time.Now(), 0
	for ; k.kills < s.kills; rounds++ {
		test, before, at := s.tests[rounds%len(s.tests)], k.kills, time.Now()
		if err := k.during(ctx, func(ctx context.Context) error { return runTest(ctx, s, dir, p.addr(), test, rounds) }); err != nil {
			return fmt.Errorf("%s, round %d, after %d kills: %w", test, rounds+1, k.kills, err)
		}
		fmt.Printf("etl: %s passed in %v with %d kills, %d of all\n", test, time.Since(at).Round(time.Second), k.kills-before, k.kills)
	}
	fmt.Printf("etl: %d kills in %v, %d tests, no failure; slowest start after a kill %v\n",
		k.kills, time.Since(began).Round(time.Second), rounds, k.slowest.Round(time.Millisecond))
	return nil
}

// build makes the two programs.
func build(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/twmb/franz-go").Output()
	if err != nil {
		return fmt.Errorf("look for franz-go in the module cache: %w", err)
	}
	franz := filepath.Join(dir, "franz-go")
	if err := os.CopyFS(franz, os.DirFS(strings.TrimSpace(string(out)))); err != nil {
		return err
	}
	if err := apply(filepath.Join(franz, "pkg", "kgo")); err != nil {
		return err
	}
	for _, c := range []*exec.Cmd{
		exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "moldau"), "github.com/moldau-stream/moldau/cmd/moldau"),
		exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-o", filepath.Join(dir, "kgo.test"), "./pkg/kgo"),
	} {
		if c.Args[1] == "test" {
			c.Dir = franz
		}
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, out)
		}
	}
	return nil
}

func runTest(ctx context.Context, s settings, dir, addr, test string, round int) error {
	name := filepath.Join(dir, fmt.Sprintf("%02d-%s.log", round+1, test))
	log, err := os.Create(name)
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.CommandContext(ctx, filepath.Join(dir, "kgo.test"), "-test.v", "-test.run", "^"+test+"$", "-test.timeout", s.timeout.String())
	c.Dir, c.Stdout, c.Stderr = dir, log, log
	c.Env = append(os.Environ(), "KGO_SEEDS="+addr, "KGO_TEST_RF=1", "KGO_TEST_UNSAFE=1", fmt.Sprint("KGO_TEST_RECORDS=", s.records), "KGO_LOG_LEVEL="+s.log)
	if err := c.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, failure(name))
	}
	return ran(name, test)
}

// ran makes sure that a test that passed was not skipped.
func ran(log, test string) error {
	b, err := os.ReadFile(log)
	if err == nil && !strings.Contains(string(b), "--- PASS: "+test) {
		err = errors.New("the test did not run")
	}
	return err
}

// failure is the end of a log and what its tests say.
func failure(log string) string {
	f, err := os.Open(log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const tail = 4000
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		_, _ = f.Seek(-tail, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return string(b)
}

// killer owns the server.
type killer struct {
	dir     string
	proxy   *proxy
	rng     *rand.Rand
	mean    time.Duration
	server  *server
	kills   int
	slowest time.Duration // start after a kill
}

func (k *killer) start() error {
	began := time.Now()
	s, err := startServer(k.dir, k.proxy.addr())
	if err != nil {
		return err
	}
	k.server = s
	if k.kills > 0 {
		k.slowest = max(k.slowest, time.Since(began))
	}
	k.proxy.up(k.server.addr)
	return nil
}

// during kills the server again and again while the test runs.
func (k *killer) during(ctx context.Context, test func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- test(ctx) }()
	for {
		// Any moment is as likely as any other. Now and then a process lives for as long as a coordinator needs to give up a member
		// that is gone, which it begins anew whenever it is started.
		life := time.Duration(k.rng.ExpFloat64() * float64(k.mean))
		if k.rng.IntN(8) == 0 {
			life += sessions
		}
		alive := time.NewTimer(life)
		select {
		case err := <-ended:
			alive.Stop()
			return err
		case <-alive.C:
		}
		err := k.proxy.down(k.server.kill)
		if err == nil {
			k.kills++
			err = k.start()
		}
		if err != nil {
			cancel()
			<-ended
			return err
		}
	}
}
