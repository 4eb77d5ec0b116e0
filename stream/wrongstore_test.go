package stream_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAStoreOfTheWrongKindDoesNotCompile compiles a program with a mistake on each line that says so.
func TestAStoreOfTheWrongKindDoesNotCompile(t *testing.T) {
	const name = "testdata/wrongstore/wrongstore.go"
	f, err := os.Open(name)
	require.NoError(t, err)
	var want []int
	lines := bufio.NewScanner(f)
	for line := 1; lines.Scan(); line++ {
		if strings.HasSuffix(lines.Text(), "// wrong") {
			want = append(want, line)
		}
	}
	require.NoError(t, lines.Err())
	require.NoError(t, f.Close())
	require.NotEmpty(t, want)

	out, err := exec.Command("go", "build", "-gcflags=-e", name).CombinedOutput()
	var failed *exec.ExitError
	require.True(t, errors.As(err, &failed), "%v: %s", err, out)
	var got []int
	for _, m := range regexp.MustCompile(`(?m)wrongstore\.go:(\d+):`).FindAllStringSubmatch(string(out), -1) {
		line, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		if len(got) == 0 || got[len(got)-1] != line {
			got = append(got, line)
		}
	}
	require.Equal(t, want, got, "%s", out)
}
