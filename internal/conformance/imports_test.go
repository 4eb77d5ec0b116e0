package conformance

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestImportsArePublic shows that every answer of the corpus can be had with what a user of the module can import.
func TestImportsArePublic(t *testing.T) {
	const module = "github.com/moldau-stream/moldau/"
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			ours, rest := strings.HasPrefix(p, module), strings.TrimPrefix(p, module)
			internal := strings.HasPrefix(rest, "internal/") || strings.Contains(rest, "/internal/") || strings.HasSuffix(rest, "/internal")
			library := strings.Contains(strings.Split(p, "/")[0], ".")
			if ours && internal || library && !ours {
				t.Errorf("%s imports %s: only the standard library and what users of the module can import may be imported here", name, p)
			}
		}
	}
}
