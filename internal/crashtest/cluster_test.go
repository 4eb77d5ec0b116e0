package crashtest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions = 4
	patience   = 90 * time.Second // a hang, not a measurement
)

// cluster is one server process with its clients and the directories that outlive its kills.
type cluster struct {
	addr, dataDir, stateDir string
	logs                    string
	server                  *process
	client                  *kgo.Client
	admin                   *kadm.Client
	loader                  *loader
	watcher                 *watcher
}

func newCluster(t *testing.T) *cluster {
	c := newServer(t, "lines", "word-counts")
	c.loader = startLoader(t, c.addr)
	c.watcher = startWatcher(t, c.addr)
	return c
}

// newServer is a cluster with topics that nobody reads or writes yet.
func newServer(t *testing.T, topics ...string) *cluster {
	dir := t.TempDir()
	c := &cluster{addr: freeAddress(t), dataDir: filepath.Join(dir, "data"), stateDir: filepath.Join(dir, "state"), logs: dir}
	c.startServer(t)
	t.Cleanup(func() { c.server.stop() })
	var err error
	c.client, err = kgo.NewClient(kgo.SeedBrokers(c.addr))
	require.NoError(t, err)
	t.Cleanup(c.client.Close)
	c.admin = kadm.NewClient(c.client)
	_, err = c.admin.CreateTopics(t.Context(), partitions, 1, nil, topics...)
	require.NoError(t, err)
	return c
}

func (c *cluster) startServer(t *testing.T) {
	c.server = start(t, filepath.Join(c.logs, "server.log"), filepath.Join(programs, "moldau"), "server", "--listen", c.addr, "--data", c.dataDir)
	c.server.waitLine(t)
}

func (c *cluster) startApp(t *testing.T) *process {
	p := start(t, filepath.Join(c.logs, "app.log"), filepath.Join(programs, "wordcount"),
		"-brokers", c.addr, "-state", c.stateDir, "-load=false", "-follow", "-guarantee", "exactly-once")
	t.Cleanup(p.stop)
	return p
}

// waitRandom lets up to 300 ms pass, so that kills fall anywhere in the commit cycle. Nothing is asserted on it.
func (c *cluster) waitRandom(rng *rand.Rand) {
	<-time.After(time.Duration(rng.IntN(300)) * time.Millisecond)
}

// transactionOpen says whether a partition that the application writes has records beyond its last stable offset.
func (c *cluster) transactionOpen(t *testing.T) bool {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	topics, err := c.admin.ListTopics(ctx)
	require.NoError(t, err)
	var names []string
	for _, name := range topics.Names() {
		if name != "lines" {
			names = append(names, name)
		}
	}
	stable, err := c.admin.ListCommittedOffsets(ctx, names...)
	require.NoError(t, err)
	ends, err := c.admin.ListEndOffsets(ctx, names...)
	require.NoError(t, err)
	open := false
	ends.Each(func(end kadm.ListedOffset) {
		if s, ok := stable.Lookup(end.Topic, end.Partition); ok && s.Err == nil && end.Err == nil && s.Offset < end.Offset {
			open = true
		}
	})
	return open
}

func (c *cluster) waitOpenTransaction(t *testing.T) {
	for deadline := time.Now().Add(patience); !c.transactionOpen(t); {
		require.True(t, time.Now().Before(deadline), "no transaction was open for %v: does the application run?", patience)
	}
}

// ends are the high watermarks of the output topic: what lies beyond them was written later.
func (c *cluster) ends(t *testing.T) map[int32]int64 {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	offsets, err := c.admin.ListEndOffsets(ctx, "word-counts")
	require.NoError(t, err)
	require.NoError(t, offsets.Error())
	ends := make(map[int32]int64)
	offsets.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
}

// process is a program that runs until it is killed, terminated or stopped at the end of the test.
type process struct {
	cmd  *exec.Cmd
	out  *bufio.Reader
	log  string
	done chan struct{}
	err  error // of Wait; valid after done
}

func start(t *testing.T, log, binary string, args ...string) *process {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	fmt.Fprintf(f, "--- %s %v\n", binary, args)
	p := &process{cmd: exec.Command(binary, args...), log: log, done: make(chan struct{})}
	p.cmd.Stderr = f
	read, write, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout = write
	p.out = bufio.NewReader(read)
	require.NoError(t, p.cmd.Start())
	write.Close()
	f.Close()
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if filepath.Base(binary) != "moldau" { // the server's one line is read by waitLine
		go func() {
			defer read.Close()
			for {
				if _, err := p.out.ReadString('\n'); err != nil {
					return
				}
			}
		}()
	}
	t.Cleanup(func() {
		if t.Failed() {
			if b, err := os.ReadFile(log); err == nil {
				t.Logf("%s ends with:\n%s", log, b[max(0, len(b)-6000):])
			}
		}
	})
	return p
}

// waitLine waits for the line that says that the server serves.
func (p *process) waitLine(t *testing.T) {
	line, err := p.out.ReadString('\n')
	if err != nil {
		<-p.done
		b, _ := os.ReadFile(p.log)
		require.NoError(t, err, "the server ended before it served: %v\n%s", p.err, b[max(0, len(b)-3000):])
	}
	require.NotEmpty(t, line)
}

// kill ends a process that still runs with SIGKILL.
func (p *process) kill(t *testing.T) {
	select {
	case <-p.done:
		require.Fail(t, "the process ended by itself", "%v", p.err)
	default:
	}
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
}

// terminate asks for a graceful stop, which has to succeed.
func (p *process) terminate(t *testing.T) {
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.done:
		require.NoError(t, p.err, "graceful stop")
	case <-time.After(patience):
		require.Fail(t, "no graceful stop")
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
