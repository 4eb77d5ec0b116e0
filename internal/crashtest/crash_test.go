// Package crashtest kills the word-count process and the server with SIGKILL at random moments while input flows, and
// checks that nobody who reads committed output could tell: per word a strictly increasing sequence of counts that ends
// at the plain count of the words of every acknowledged line.
//
//	loader (this process) --lines--> moldau server <--> wordcount --word-counts--> watcher (this process, read_committed)
//	                                  ^ SIGKILL          ^ SIGKILL
//
// A kill counts only if output was committed since the last restart and a transaction was open when the process died.
// `go test ./internal/crashtest -kills 20 -v` is the long form; -v prints how long each recovery took.
package crashtest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	kills = flag.Int("kills", 2, "kills that must count, of each kind")
	seed  = flag.Uint64("crash-seed", uint64(time.Now().UnixNano()), "seed of the moments of the kills")
)

func TestKillingTheAppIsInvisible(t *testing.T) {
	for _, state := range []string{"kept", "deleted"} {
		t.Run("state directory "+state, func(t *testing.T) {
			c := newCluster(t)
			app := c.startApp(t)
			rng := rand.New(rand.NewPCG(*seed, 1))
			t.Logf("seed %d", *seed)
			var slowest time.Duration
			for counted := 0; counted < *kills; {
				c.watcher.waitPast(t, c.ends(t)) // output committed since the restart
				c.waitRandom(rng)
				c.waitOpenTransaction(t)
				app.kill(t)
				open := c.transactionOpen(t) // nobody is left to end it: it was open at the kill
				if open {
					counted++
				}
				if state == "deleted" {
					require.NoError(t, os.RemoveAll(c.stateDir))
				}
				before := c.ends(t)
				restarted := time.Now()
				app = c.startApp(t)
				c.watcher.waitPast(t, before)
				took := time.Since(restarted)
				slowest = max(slowest, took)
				t.Logf("kill %d (transaction open: %v): output committed again %v after the restart", counted, open, took.Round(time.Millisecond))
			}
			t.Logf("%d kills with a transaction open, slowest recovery %v", *kills, slowest.Round(time.Millisecond))
			c.finish(t, app)
		})
	}
}

func TestKillingTheServerIsInvisible(t *testing.T) {
	c := newCluster(t)
	app := c.startApp(t)
	rng := rand.New(rand.NewPCG(*seed, 2))
	t.Logf("seed %d", *seed)
	var slowest time.Duration
	for counted := 1; counted <= *kills; counted++ {
		c.watcher.waitPast(t, c.ends(t))
		c.waitRandom(rng)
		c.waitOpenTransaction(t)
		c.server.kill(t)
		restarted := time.Now()
		c.startServer(t)
		c.watcher.waitPast(t, c.ends(t))
		took := time.Since(restarted)
		slowest = max(slowest, took)
		t.Logf("kill %d: output committed again %v after the restart", counted, took.Round(time.Millisecond))
	}
	t.Logf("%d kills with a transaction open, slowest recovery %v", *kills, slowest.Round(time.Millisecond))
	c.finish(t, app)
}

// finish stops the input, lets the application catch up, stops it gracefully and compares.
func (c *cluster) finish(t *testing.T, app *process) {
	want := c.loader.stop(t)
	c.watcher.waitCounts(t, want)
	app.terminate(t)
	c.watcher.check(t, want)
	t.Logf("%d lines, %d distinct words, %d committed counts: all as counted plainly", c.loader.lines(), len(want), c.watcher.records())
}

// programs is where TestMain put the two programs under test: linking them takes longer than a kill.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "crashtest-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		programs = dir
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "../../cmd/moldau", "../../examples/wordcount")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the programs under test: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}
