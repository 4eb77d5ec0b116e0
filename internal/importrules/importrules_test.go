// Package importrules holds the import direction of the module, as a test that parses every file.
//
//	       examples   benchmarks   cmd/moldau            both columns
//	            |                       |
//	stream column                 broker column
//	serde window state join       broker, broker/...
//	stream internal/{topo,store,task,dsl}
//	            |                       |
//	----------- base: every other internal/ package -----------
//
// The columns meet over the Kafka protocol and never import each other; the base imports neither. Test files see
// everything of ours, so that a stream test can start a broker.
package importrules

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/moldau-stream/moldau"

// column is where a directory of the module stands.
type column string

const (
	streams column = "stream column"
	brokers column = "broker column"
	base    column = "base"
	both    column = "both columns"
)

// columns maps a directory, and all below it, to its column; the longest prefix wins.
var columns = map[string]column{
	"serde":                streams,
	"window":               streams,
	"state":                streams,
	"join":                 streams,
	"stream":               streams,
	"internal/topo":        streams,
	"internal/dsl":         streams,
	"internal/store":       streams,
	"internal/task":        streams,
	"broker":               brokers,
	"internal":             base,
	"examples":             both,
	"benchmarks":           both,
	"cmd":                  both,
	"docs":                 both,
	"internal/conformance": streams,
}

// layers are the broker's packages from the lowest to the highest: a package imports only lower ones, never one of
// its own layer but the folders of its own. So the coordinators stay apart from each other and from the connections.
var layers = [][]string{
	{"broker/internal/log", "broker/internal/metrics", "broker/internal/config", "broker/internal/security", "broker/internal/fault"},
	{"broker/internal/replica"},
	{"broker/internal/coordinator"},
	{"broker/internal/controller", "broker/internal/group", "broker/internal/txn", "broker/internal/share"},
	{"broker/internal/quota"},
	{"broker/internal/server"},
	{"broker", "broker/takeover", "broker/logdump"},
	{"broker/brokerfx", "broker/brokertest"},
}

// confined are the external packages that only some directories may import. tests tells whether test files may
// import them anywhere outside never.
var confined = []struct {
	prefix string
	where  []string
	never  []string
	tests  bool
	why    string
}{
	{prefix: "go.uber.org/fx", where: []string{"stream/streamfx", "broker/brokerfx", "cmd/moldau"},
		why: "everything works without fx"},
	{prefix: "github.com/twmb/franz-go/pkg/kgo", where: []string{"stream", "cmd", "examples", "benchmarks", "internal/interop"},
		never: []string{"internal/task", "internal/store", "internal/topo", "stream/streamtest"}, tests: true,
		why: "tasks and stores know no client; batches come from the runtime"},
	{prefix: "github.com/twmb/franz-go/pkg/kadm", where: []string{"stream", "cmd", "examples", "benchmarks"},
		never: []string{"internal/task", "internal/store", "internal/topo", "stream/streamtest"}, tests: true,
		why: "tasks and stores know no client; batches come from the runtime"},
	{prefix: "github.com/hamba/avro", where: []string{"serde/avro"},
		why: "the library is archived and stands behind our wrapper"},
	{prefix: "github.com/twmb/franz-go/pkg/sr", where: []string{"serde/registry"}, tests: true,
		why: "the schema registry stands behind our client"},
	{prefix: "google.golang.org/protobuf", where: []string{"serde/protobuf", "examples"}, tests: true,
		why: "whoever has no Protobuf does not link it"},
	{prefix: "github.com/santhosh-tekuri/jsonschema", where: []string{"serde/jsonschema"},
		why: "the library stands behind our wrapper"},
	{prefix: "github.com/cockroachdb/pebble", where: []string{"internal/store", "benchmarks"},
		why: "the engine stands behind the stores' interface"},
	{prefix: "github.com/spf13/cobra", where: []string{"cmd"},
		why: "only the command line has flags of its own"},
}

// problem says why the file at rel (slashes, from the module's root) may not import what it imports; nil if it may.
func problem(rel, imported string) error {
	dir := path.Dir(rel)
	test := strings.HasSuffix(rel, "_test.go")
	from, ok := columnOf(dir)
	if !ok {
		return fmt.Errorf("%s: directory %s has no place in the layout: add it to columns", rel, dir)
	}
	for _, c := range confined {
		if !within(imported, c.prefix) {
			continue
		}
		allowed := withinAny(dir, c.where) || test && c.tests
		if !allowed || withinAny(dir, c.never) {
			return fmt.Errorf("%s: imports %s: %s", rel, imported, c.why)
		}
	}
	if !within(imported, module) || test {
		return nil
	}
	target := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
	to, ok := columnOf(target)
	if !ok {
		return fmt.Errorf("%s: imports %s, which has no place in the layout", rel, imported)
	}
	switch {
	case to == both && strings.Split(dir, "/")[0] != strings.Split(target, "/")[0]:
		return fmt.Errorf("%s: imports %s: nothing builds on a program", rel, imported)
	case from == base && to != base:
		return fmt.Errorf("%s: the base imports %s of the %s", rel, imported, to)
	case from == streams && to == brokers, from == brokers && to == streams:
		return fmt.Errorf("%s: the %s imports %s of the %s: they meet over the Kafka protocol", rel, from, imported, to)
	}
	if l, m := layerOf(dir), layerOf(target); l >= 0 && m >= l && !sameFamily(dir, target) {
		return fmt.Errorf("%s: %s imports %s, which is not below it", rel, dir, target)
	}
	return nil
}

func columnOf(dir string) (column, bool) {
	for d := dir; d != "."; d = path.Dir(d) {
		if c, ok := columns[d]; ok {
			return c, true
		}
	}
	return "", false
}

func layerOf(dir string) int {
	found, longest := -1, -1
	for i, l := range layers {
		for _, p := range l {
			if within(dir, p) && len(p) > longest {
				found, longest = i, len(p)
			}
		}
	}
	return found
}

// sameFamily tells whether one is a folder of the other. The folders of the package broker are its layers, not its own.
func sameFamily(dir, target string) bool {
	return within(target, dir) || within(dir, target) && target != "broker"
}

func within(p, prefix string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }

func withinAny(p string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return within(p, prefix) })
}

// root is the module's directory.
func root(t *testing.T) string {
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		require.NotEqual(t, up, dir, "no go.mod above the test's directory")
		dir = up
	}
}

func TestImportsFollowTheLayout(t *testing.T) {
	top := root(t)
	files := 0
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			// Other packages' tests make and remove files at the same time.
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != top && (name == "testdata" || name[0] == '.' || name[0] == '_') {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		files++
		parsed, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if rel == "internal/deps/deps.go" {
			return nil // never compiled: keeps modules in go.mod
		}
		for _, i := range parsed.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if err := problem(rel, imported); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, files, 3, "the walk found hardly any file")
}

// The rules themselves: what they forbid and what they allow.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		file, imported string
		allowed        bool
	}{
		{"stream/app.go", module + "/broker", false},
		{"broker/broker.go", module + "/stream", false},
		{"broker/internal/log/log.go", module + "/serde", false},
		{"internal/task/task.go", module + "/broker/internal/log", false},
		{"internal/task/task.go", module + "/internal/store", true},
		{"internal/batch/batch.go", module + "/internal/store", false},
		{"internal/batch/batch.go", module + "/internal/murmur", true},
		{"broker/internal/log/log.go", module + "/internal/batch", true},
		{"stream/app_test.go", module + "/broker/brokertest", true},
		{"examples/wordcount/main.go", module + "/broker", true},
		{"cmd/moldau/main.go", module + "/stream", true},
		{"stream/app.go", module + "/examples/wordcount", false},

		{"broker/internal/replica/replica.go", module + "/broker/internal/log", true},
		{"broker/internal/log/log.go", module + "/broker/internal/replica", false},
		{"broker/internal/group/group.go", module + "/broker/internal/txn", false},
		{"broker/internal/group/group.go", module + "/broker/internal/group/assign", true},
		{"broker/internal/txn/txn.go", module + "/broker/internal/server", false},
		{"broker/internal/coordinator/coordinatortest/log.go", module + "/broker/internal/coordinator", true},
		{"broker/internal/server/join_group.go", module + "/broker/internal/group", true},
		{"broker/internal/server/server.go", module + "/broker", false},
		{"broker/takeover/takeover.go", module + "/broker/internal/controller", true},
		{"broker/takeover/takeover.go", module + "/broker", false},
		{"broker/logdump/logdump.go", module + "/broker/internal/log", true},

		{"stream/streamfx/fx.go", "go.uber.org/fx", true},
		{"cmd/moldau/server.go", "go.uber.org/fx", true},
		{"stream/app.go", "go.uber.org/fx", false},
		{"examples/wordcount/main.go", "go.uber.org/fx", false},
		{"stream/producer.go", "github.com/twmb/franz-go/pkg/kgo", true},
		{"internal/task/task.go", "github.com/twmb/franz-go/pkg/kgo", false},
		{"internal/task/task_test.go", "github.com/twmb/franz-go/pkg/kgo", false},
		{"broker/broker.go", "github.com/twmb/franz-go/pkg/kgo", false},
		{"broker/broker_test.go", "github.com/twmb/franz-go/pkg/kgo", true},
		{"broker/internal/server/fetch.go", "github.com/twmb/franz-go/pkg/kmsg", true},
		{"serde/avro/avro.go", "github.com/hamba/avro/v2", true},
		{"stream/dsl.go", "github.com/hamba/avro/v2", false},
		{"serde/registry/client.go", "github.com/hamba/avro/v2", false},
		{"serde/registry/client.go", "github.com/twmb/franz-go/pkg/sr", true},
		{"serde/avro/avro.go", "github.com/twmb/franz-go/pkg/sr", false},
		{"stream/app_test.go", "github.com/twmb/franz-go/pkg/sr/srfake", true},
		{"serde/protobuf/protobuf.go", "google.golang.org/protobuf/proto", true},
		{"serde/serde.go", "google.golang.org/protobuf/proto", false},
		{"serde/jsonschema/jsonschema.go", "github.com/santhosh-tekuri/jsonschema/v6", true},
		{"serde/json.go", "github.com/santhosh-tekuri/jsonschema/v6", false},
		{"stream/app.go", "github.com/cockroachdb/pebble/v2", false},
		{"utils/x.go", "fmt", false},
	} {
		err := problem(c.file, c.imported)
		if c.allowed {
			require.NoError(t, err)
		} else {
			require.Error(t, err, "%s may not import %s", c.file, c.imported)
		}
	}
}
