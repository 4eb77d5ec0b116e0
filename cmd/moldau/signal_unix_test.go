//go:build unix

package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// beMoldau makes the test binary the program itself, so that tests can start it as a process.
const beMoldau = "TEST_BINARY_IS_MOLDAU"

func TestMain(m *testing.M) {
	if os.Getenv(beMoldau) != "" {
		main()
	}
	os.Exit(m.Run())
}

// fx hears of a signal, too, and tells the program in a race with its own context; every stop must be one in order.
func TestSIGTERMAndSIGINTStopTheServerInOrder(t *testing.T) {
	dir := t.TempDir()
	for i := range 12 {
		cmd := exec.Command(os.Args[0], "server", "--listen", "127.0.0.1:0", "--data", dir)
		cmd.Env = append(os.Environ(), beMoldau+"=1")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		var logs bytes.Buffer
		cmd.Stderr = &logs
		require.NoError(t, cmd.Start())
		line := bufio.NewScanner(out)
		served := line.Scan()
		require.NoError(t, cmd.Process.Signal([]os.Signal{syscall.SIGTERM, os.Interrupt}[i%2]))
		require.False(t, served && line.Scan(), "more than one line on stdout")
		require.NoError(t, cmd.Wait(), "stop %d: %s", i, logs.String())
		require.True(t, served, logs.String())
	}
}
