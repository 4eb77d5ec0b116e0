package conformance

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// scenario is one line of testdata/scenarios.jsonl.gz.
type scenario struct {
	ID            string         `json:"id"`
	Family        string         `json:"family"`
	Topology      []op           `json:"topology"`
	Steps         []step         `json:"steps"`
	Expect        [][]record     `json:"expect"`
	Stores        map[string]set `json:"stores"`
	Changelogs    map[string]set `json:"changelogs"`
	Describe      string         `json:"describe"`
	Subtopologies int            `json:"subtopologies"`
	Repartitions  []string       `json:"repartitions"`
}

type op struct {
	Op    string   `json:"op"`
	Topic string   `json:"topic"`
	In    string   `json:"in"`
	With  string   `json:"with"`
	Out   string   `json:"out"`
	Outs  []string `json:"outs"`
	Pred  string   `json:"pred"`
	Preds []string `json:"preds"`
	Fn    string   `json:"fn"`
	Kfn   string   `json:"kfn"`
	By    string   `json:"by"`
	Kind  string   `json:"kind"`
	Name  string   `json:"name"`
	Store string   `json:"store"`
}

type step struct {
	Advance int64 `json:"advance"`
	record
}

type record struct {
	Topic   string      `json:"topic"`
	Key     *string     `json:"key"`
	Value   *string     `json:"value"`
	TS      int64       `json:"ts"`
	Headers [][2]string `json:"headers,omitempty"`
}

// set is the content of a store or a changelog.
type set []row

type row struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	TS    int64  `json:"ts"`
}

func scenarios(t *testing.T) []scenario {
	f, err := os.Open("testdata/scenarios.jsonl.gz")
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var all []scenario
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var s scenario
		require.NoError(t, json.Unmarshal(lines.Bytes(), &s))
		all = append(all, s)
	}
	require.NoError(t, lines.Err())
	return all
}
