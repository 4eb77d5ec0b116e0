package topo

import (
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// The scripts have the text or the JSON of an old and a new topology, and what the differences are.
func TestDiff(t *testing.T) {
	var old, now *Description
	datadriven.RunTest(t, "testdata/diff/diff", func(t *testing.T, td *datadriven.TestData) string {
		d, err := ParseDescription([]byte(td.Input))
		if err != nil {
			return err.Error() + "\n"
		}
		if td.Cmd == "old" {
			old = d
			return ""
		}
		now = d
		var b strings.Builder
		for _, x := range Diff(old, now) {
			b.WriteString(x.String() + "\n")
		}
		require.Empty(t, Diff(now, now), "a topology is itself")
		return b.String()
	})
}

func TestDescriptionsOfKafkaStreamsAreRead(t *testing.T) {
	text, err := os.ReadFile("testdata/optimize/descriptions.txt")
	require.NoError(t, err)
	parts := strings.Split(string(text), "=== ")
	require.Greater(t, len(parts), 20)
	for _, part := range parts[1:] {
		name, text, _ := strings.Cut(part, "\n")
		text, _, _ = strings.Cut(text, "\nrepartition topics:")
		if !strings.Contains(text, "Topologies:") {
			continue
		}
		d, err := ParseDescription([]byte(text))
		require.NoError(t, err, name)
		again, err := ParseDescription(d.JSON())
		require.NoError(t, err)
		require.Equal(t, d, again, name)
	}
}

func FuzzParseDescription(f *testing.F) {
	f.Add([]byte("Topologies:\n   Sub-topology: 0\n    Source: a (topics: [b])\n      --> none\n"))
	f.Add([]byte(`{"subtopologies":[{"id":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if d, err := ParseDescription(text); err == nil {
			Diff(d, d)
		}
	})
}
