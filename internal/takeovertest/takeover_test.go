package takeovertest

import (
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/stream"
)

var (
	javaDir   = flag.String("takeover.java", "", "directory of the compiled Java application, with `classes` and lib; make takeover gives it")
	kafkaNode = flag.String("takeover.kafka-node", "", "`script` that starts Apache Kafka (start|wipe PORT DIR)")
	kafkaPort = flag.String("takeover.kafka-port", "9390", "`port` of Apache Kafka, and one above")
)

// java runs the Java application. stop lets it commit a last time; kill does not.
func (c *cluster) java(guarantee string) (stop, kill func()) {
	cmd := exec.Command("java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
		"-cp", strings.Join([]string{filepath.Join(*javaDir, "classes"), filepath.Join(*javaDir, "lib", "*")}, string(os.PathListSeparator)),
		"Takeover", c.addr, c.t.TempDir(), guarantee)
	cmd.Stderr = c.t.Output()
	stdin, err := cmd.StdinPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, cmd.Start())
	ended := false
	end := func(how func() error) error {
		if ended {
			return nil
		}
		ended = true
		_ = how()
		return cmd.Wait()
	}
	c.t.Cleanup(func() { _ = end(cmd.Process.Kill) })
	return func() { require.NoError(c.t, end(io.Closer(stdin).Close)) }, func() { _ = end(cmd.Process.Kill) }
}

// onClusters runs a test on a broker in the process and, if there is one, on Apache Kafka.
func onClusters(t *testing.T, f func(c *cluster)) {
	if *javaDir == "" {
		t.Skip("make takeover runs it: it needs Java")
	}
	t.Run("moldau", func(t *testing.T) { f(connect(t, listening(t))) })
	t.Run("kafka", func(t *testing.T) {
		if *kafkaNode == "" {
			t.Skip("no script that starts Apache Kafka")
		}
		dir := t.TempDir()
		out, err := exec.Command(*kafkaNode, "start", *kafkaPort, dir).CombinedOutput()
		require.NoError(t, err, "%s", out)
		t.Cleanup(func() { _ = exec.Command(*kafkaNode, "wipe", *kafkaPort, dir).Run() })
		f(connect(t, "127.0.0.1:"+*kafkaPort))
	})
}

// listening is the address of a broker in the process that Java can reach.
func listening(t *testing.T) string {
	b, err := broker.Start(t.Context(), broker.Config{Listen: []string{"127.0.0.1:0"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b.Addrs()[0]
}

func TestGoesOnWhereJavaStopped(t *testing.T) {
	onClusters(t, func(c *cluster) {
		c.stopped("at_least_once", stream.AtLeastOnce)
	})
}

func TestGoesOnWhereJavaStoppedExactlyOnce(t *testing.T) {
	onClusters(t, func(c *cluster) {
		c.stopped("exactly_once_v2", stream.ExactlyOnce)
	})
}

func (c *cluster) stopped(guarantee string, g stream.Guarantee) {
	start := recently()
	c.topics(append([]string{"orders"}, results...)...)
	c.send(orders(start, 0, 900))
	stop, _ := c.java(guarantee)
	c.eventually(func() bool { return len(c.read("counts")) > 0 }, "the Java application counts")
	stop()
	c.send(orders(start, 900, 600))
	c.empty()
	c.goOn(g, orders(start, 0, 1500))
}

// The transaction that is open when the Java application is killed is aborted by time; what was in it is done by its successor.
func TestGoesOnWhereJavaWasKilled(t *testing.T) {
	onClusters(t, func(c *cluster) {
		start := recently()
		c.topics(append([]string{"orders"}, results...)...)
		c.send(orders(start, 0, 900))
		_, kill := c.java("exactly_once_v2")
		c.eventually(func() bool { return len(c.read("counts")) > 0 }, "the Java application counts")
		c.send(orders(start, 900, 600))
		kill()
		c.empty()
		c.goOn(stream.ExactlyOnce, orders(start, 0, 1500))
	})
}
