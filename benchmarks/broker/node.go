package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// node is a running broker.
type node struct {
	name, addr string
	cmd        *exec.Cmd
	log        *os.File
	dir        string
}

func (n *node) pid() int { return n.cmd.Process.Pid }

// build makes the load program, Kafka's class path and our server.
func (c config) build(ctx context.Context) error {
	if err := os.MkdirAll(c.work, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.work, "load")); err != nil {
		cmd := exec.CommandContext(ctx, filepath.Join(c.peers, "build.sh"))
		cmd.Env = append(os.Environ(), "PEERS_DIR="+c.work)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build Apache Kafka and the load program in %s: %w", c.peers, err)
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(c.work, "moldau"), "./cmd/moldau")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the server: %w", err)
	}
	return nil
}

// startNodes starts the nodes that workloads need and warms them up. It gives those that run also with an error.
func (c config) startNodes(ctx context.Context, all []workload) (map[string]*node, error) {
	nodes := map[string]*node{}
	for _, w := range all {
		if w.own {
			continue
		}
		for _, name := range []string{w.kafka, w.moldau} {
			if nodes[name] != nil {
				continue
			}
			n, err := c.start(ctx, name)
			if n != nil {
				nodes[name] = n
			}
			if err != nil {
				return nodes, fmt.Errorf("start %s: %w", name, err)
			}
			fmt.Fprintf(os.Stderr, "%s at %s, warming up\n", n.name, n.addr)
			if err := c.warm(ctx, n); err != nil {
				return nodes, fmt.Errorf("warm up %s: %w", name, err)
			}
		}
	}
	return nodes, nil
}

// warm lets Kafka compile itself, and gives ours the same.
func (c config) warm(ctx context.Context, n *node) error {
	records, times := "4000000", 2
	if c.short {
		records, times = "1000000", 1
	}
	for range times {
		for _, batch := range []string{"1048576", "16384"} {
			if _, err := load("produce", "-topic", "warm", "-partitions", "8", "-records", records, "-batch", batch)(ctx, c, n); err != nil {
				return err
			}
			if _, err := load("consume", "-topic", "warm")(ctx, c, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// place prepares a node: its directory, its port and its command.
func (c config) place(ctx context.Context, name string) (*node, error) {
	dir, err := os.MkdirTemp(c.work, "data-")
	if err != nil {
		return nil, err
	}
	n := &node{name: name, dir: dir}
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	n.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	switch name {
	case kafka:
		launcher := filepath.Join(c.peers, "kafka.sh")
		format := exec.CommandContext(ctx, launcher, "format", filepath.Join(dir, "kafka"), strconv.Itoa(port))
		format.Env = append(os.Environ(), "PEERS_DIR="+c.work)
		if out, err := format.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("format: %w: %s", err, out)
		}
		n.cmd = exec.Command(launcher, "run", filepath.Join(dir, "kafka"), strconv.Itoa(port))
		n.cmd.Env = format.Env
	case pageCache, syncedAcks:
		durability := "sync"
		if name == pageCache {
			durability = "page-cache"
		}
		n.cmd = exec.Command(filepath.Join(c.work, "moldau"), "server", "--listen", n.addr, "--data", filepath.Join(dir, "moldau"),
			"--durability", durability)
	}
	return n, nil
}

// run starts the node's process.
func (n *node) run() (err error) {
	if n.cmd.Process != nil {
		n.cmd = again(n.cmd)
	}
	if n.log, err = os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return err
	}
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	return n.cmd.Start()
}

func (c config) start(ctx context.Context, name string) (*node, error) {
	n, err := c.place(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := n.run(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", n.addr); err == nil {
			return n, conn.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return n, fmt.Errorf("nothing listens at %s; its log is %s", n.addr, n.log.Name())
		}
	}
}

// end stops the node's process.
func (n *node) end() error {
	err := n.cmd.Process.Signal(os.Interrupt)
	if err == nil {
		_ = n.cmd.Wait() // Kafka's exit status is 130
	}
	return errors.Join(err, n.log.Close())
}

// stop ends the node and removes its data.
func (n *node) stop() error { return errors.Join(n.end(), os.RemoveAll(n.dir)) }

// freePorts finds a port that is free together with the next one, which Kafka's controller takes.
func freePorts() (int, error) {
	for range 20 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		_ = a.Close()
		if err == nil {
			return port, b.Close()
		}
	}
	return 0, errors.New("no two free ports in a row")
}
