// Command compare runs our stream program and Kafka Streams' on the same workloads and the same Apache Kafka broker, in
// turn, and prints what each did per CPU second and the ratio.
//
//	make bench-streams ARGS='-run tumbling -scale 3'
//
// It needs Java 17 and Maven, and the programs beside WORKLOADS.md (-peers). Every run's output is verified there.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// workload is one of WORKLOADS.md with the ratio that we want.
type workload struct {
	name string
	goal float64
}

var workloads = []workload{
	{"passthrough", 2.5}, {"count-zipf", 8}, {"count", 8}, {"tumbling", 6}, {"sliding", 8}, {"session", 8}, {"tablejoin", 5}, {"join", 4},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := comparison{ctx: ctx}
	flag.StringVar(&c.peers, "peers", "../shared/peers", "directory of WORKLOADS.md")
	flag.StringVar(&c.built, "built", cmpEnv("PEERS_DIR", filepath.Join(os.TempDir(), "moldau-peers")), "where the peers' programs are built")
	flag.IntVar(&c.scale, "scale", 3, "size of the inputs; with 1 Kafka Streams is understated")
	flag.IntVar(&c.rounds, "rounds", 1, "runs of each")
	flag.StringVar(&c.guarantees, "eos", "0", "0: at least once, 1: exactly once, 01: both")
	match := flag.String("run", ".", "only workloads that match; restore is one too, and json and avro, which we run alone")
	flag.Parse()
	c.match = regexp.MustCompile(*match)
	if err := c.run(); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func cmpEnv(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

type comparison struct {
	ctx                      context.Context
	peers, built, guarantees string
	scale, rounds            int
	match                    *regexp.Regexp

	dir  string
	addr string
	pid  int
}

// result is what the load program prints of a run.
type result struct {
	PerCPU   float64 `json:"records_per_cpu_s"`
	PerS     float64 `json:"records_per_s"`
	PeakMB   float64 `json:"app_peak_rss_mb"`
	RunningS float64 `json:"running_s"`
	CPUS     float64 `json:"cpu_s"`
	Verified bool    `json:"verified"`
}

func (c *comparison) run() (err error) {
	if c.dir, err = os.MkdirTemp("", "moldau-bench-streams-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	if c.peers, err = filepath.Abs(c.peers); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.built, "peers-streams-1.jar")); err != nil {
		if err := c.command("", filepath.Join(c.peers, "build.sh")).Run(); err != nil {
			return fmt.Errorf("build the peers: %w", err)
		}
	}
	ours := filepath.Join(c.dir, "streams")
	if out, err := exec.CommandContext(c.ctx, "go", "build", "-o", ours, "./benchmarks/streams").CombinedOutput(); err != nil {
		return fmt.Errorf("build our program: %w: %s", err, out)
	}
	stop, err := c.kafka()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	theirs := filepath.Join(c.peers, "kafka-streams.sh")
	fmt.Printf("records per CPU second of the application, second half of the input; scale %d; one Apache Kafka broker, both in turn\n", c.scale)
	for _, w := range workloads {
		if !c.match.MatchString(w.name) {
			continue
		}
		if _, err := c.load("gen", "-workload", w.name); err != nil {
			return err
		}
		for _, eos := range strings.Split(c.guarantees, "") {
			for range c.rounds {
				if err := c.compare(w, eos, ours, theirs); err != nil {
					return err
				}
			}
		}
	}
	for _, format := range []string{"json", "avro"} {
		if c.match.MatchString(format) {
			if err := c.format(format, ours); err != nil {
				return fmt.Errorf("%s: %w", format, err)
			}
		}
	}
	if c.match.MatchString("restore") {
		return c.restore(ours, theirs)
	}
	return nil
}

func (c *comparison) compare(w workload, eos, ours, theirs string) error {
	a, err := c.app(w.name, eos, "moldau", ours)
	if err != nil {
		return err
	}
	b, err := c.app(w.name, eos, "ks", theirs)
	if err != nil {
		return err
	}
	ratio := a.PerCPU / b.PerCPU
	verdict := "met"
	if ratio < w.goal {
		verdict = "MISSED"
	}
	fmt.Printf("%-12s eos=%s  moldau %9.0f (%4.0f MB, verified %t)  kafka streams %8.0f (%4.0f MB, verified %t)  ratio %5.2f  goal %.1f %s\n",
		w.name, eos, a.PerCPU, a.PeakMB, a.Verified, b.PerCPU, b.PeakMB, b.Verified, ratio, w.goal, verdict)
	return nil
}

// restore compares the time until all tasks run, with the state lost and with the state kept.
func (c *comparison) restore(ours, theirs string) error {
	for _, eos := range strings.Split(c.guarantees, "") {
		var runs [2][2]result // by program, by kind
		for i, p := range []struct{ name, program string }{{"moldau", ours}, {"ks", theirs}} {
			if _, err := c.load("gen", "-workload", "restore"); err != nil {
				return err
			}
			if _, err := c.app("restore", eos, p.name, p.program); err != nil {
				return err
			}
			if err := os.RemoveAll(c.state(p.name)); err != nil {
				return err
			}
			for kind := range 2 {
				var err error
				if runs[i][kind], err = c.app("restore", eos, p.name, p.program, "-keep", "-until", "running"); err != nil {
					return err
				}
			}
		}
		for kind, what := range []string{"restored from the changelog (goal 1/3)", "restarted with the state kept (goal 1/20)"} {
			a, b := runs[0][kind], runs[1][kind]
			fmt.Printf("1 M keys %s eos=%s: moldau %.3f s, %.2f s CPU (verified %t); kafka streams %.3f s, %.2f s CPU (verified %t); time %.3f, CPU %.3f\n",
				what, eos, a.RunningS, a.CPUS, a.Verified, b.RunningS, b.CPUS, b.Verified, a.RunningS/b.RunningS, a.CPUS/b.CPUS)
		}
	}
	return nil
}

func (c *comparison) state(name string) string { return filepath.Join(c.dir, "state-"+name) }

// app measures one run of a program.
func (c *comparison) app(workload, eos, name, program string, args ...string) (result, error) {
	args = append([]string{"-workload", workload, "-app", name + "-" + workload + "-" + eos, "-topic", "out-" + name, "-eos", eos,
		"-state", c.state(name), "-log", filepath.Join(c.dir, name+".log"), "-label", name}, args...)
	out, err := c.load("app", append(args, "--", program)...)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(c.dir, name+".log"))
		return result{}, fmt.Errorf("%w\n%s", err, log[max(0, len(log)-2000):])
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("%s on %s: %w: %s", name, workload, err, out)
	}
	return r, nil
}

// load runs the load program.
func (c *comparison) load(do string, args ...string) ([]byte, error) {
	all := append([]string{do, "-brokers", c.addr, "-pid", strconv.Itoa(c.pid), "-scale", strconv.Itoa(c.scale)}, args...)
	cmd := c.command("", filepath.Join(c.built, "load"), all...)
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", strings.Join(all, " "), err)
	}
	return bytes.TrimSpace(out), nil
}

func (c *comparison) command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PEERS_DIR="+c.built)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd
}

// kafka starts Apache Kafka.
func (c *comparison) kafka() (stop func() error, err error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	script, data := filepath.Join(c.peers, "kafka.sh"), filepath.Join(c.dir, "kafka")
	if err := c.command("", script, "format", data, port).Run(); err != nil {
		return nil, fmt.Errorf("format Apache Kafka: %w", err)
	}
	cmd := exec.Command(script, "run", data, port)
	cmd.Env = append(os.Environ(), "PEERS_DIR="+c.built)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // an error says that it has ended
		<-ended
		return nil
	}
	c.addr, c.pid = "127.0.0.1:"+port, cmd.Process.Pid
	for range 300 {
		if conn, err := net.Dial("tcp", c.addr); err == nil {
			return stop, conn.Close()
		}
		select {
		case err := <-ended:
			return nil, fmt.Errorf("run Apache Kafka: %w", err)
		case <-c.ctx.Done():
			return nil, errors.Join(c.ctx.Err(), stop())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil, errors.Join(errors.New("no answer from Apache Kafka"), stop())
}

// freePort finds a port that is free, and the next one too: the controller takes it.
func freePort() (string, error) {
	for range 20 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		if err = errors.Join(a.Close(), err); err != nil {
			continue
		}
		return strconv.Itoa(port), b.Close()
	}
	return "", errors.New("no two free ports")
}
