// Package docs has the documents of the module; its test holds them to the code.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// packages are those whose names documents say.
var packages = []string{
	"stream", "stream/streamtest", "stream/streamfx", "join", "window", "state",
	"serde", "serde/avro", "serde/protobuf", "serde/jsonschema", "serde/registry",
}

var (
	fence  = regexp.MustCompile("(?s)```.*?```")
	code   = regexp.MustCompile("`[^`\n]+`")
	dotted = regexp.MustCompile(`\b([A-Za-z]\w*)\.([A-Z]\w*)\b`)
)

// names are the exported names of the packages, as package.Name, and of methods and fields, as Type.Name; before are the
// packages and types themselves.
func names(t *testing.T) (all, before map[string]bool) {
	all, before = map[string]bool{}, map[string]bool{}
	for _, dir := range packages {
		pkg := filepath.Base(dir)
		before[pkg] = true
		add := func(name string) { all[pkg+"."+name] = true }
		files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(dir), "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, dir)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, d := range f.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Recv == nil {
						add(d.Name.Name)
					} else {
						all[receiver(d.Recv.List[0].Type)+"."+d.Name.Name] = true
					}
				case *ast.GenDecl:
					for _, s := range d.Specs {
						switch s := s.(type) {
						case *ast.ValueSpec:
							for _, n := range s.Names {
								add(n.Name)
							}
						case *ast.TypeSpec:
							add(s.Name.Name)
							before[s.Name.Name] = before[s.Name.Name] || s.Name.IsExported()
							for _, m := range members(s.Type) {
								all[s.Name.Name+"."+m] = true
							}
						}
					}
				}
			}
		}
	}
	return all, before
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// members are the fields of a struct, or the methods of an interface.
func members(e ast.Expr) (out []string) {
	var fields *ast.FieldList
	switch e := e.(type) {
	case *ast.StructType:
		fields = e.Fields
	case *ast.InterfaceType:
		fields = e.Methods
	default:
		return nil
	}
	for _, f := range fields.List {
		for _, n := range f.Names {
			out = append(out, n.Name)
		}
	}
	return out
}

// Every stream.X, join.X and so on, and every Type.Method and Type.Field, that a document has in code font exists.
func TestNamesExist(t *testing.T) {
	all, before := names(t)
	for _, doc := range []string{"kafka-streams.md", "../README.md", "../ARCHITECTURE.md", "../CHANGELOG.md"} {
		b, err := os.ReadFile(doc)
		require.NoError(t, err)
		said := map[string]bool{}
		for _, span := range code.FindAllString(fence.ReplaceAllString(string(b), ""), -1) {
			for _, m := range dotted.FindAllStringSubmatch(span, -1) {
				if before[m[1]] {
					said[m[0]] = true
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(said)) {
			if !all[name] {
				t.Errorf("%s says %s, which does not exist", doc, name)
			}
		}
		if doc == "kafka-streams.md" {
			require.Greater(t, len(said), 200)
		}
	}
}

// Every file that the documents name with its directory exists; those of the broker may do without broker/internal.
func TestFilesExist(t *testing.T) {
	file := regexp.MustCompile(`^[a-z]+(/[\w.*-]+)+\.(go|md)$`)
	for _, doc := range []string{"../README.md", "../ARCHITECTURE.md", "../CHANGELOG.md", "kafka-streams.md", "kafka.md"} {
		b, err := os.ReadFile(doc)
		require.NoError(t, err)
		for _, span := range code.FindAllString(fence.ReplaceAllString(string(b), ""), -1) {
			name := strings.Trim(span, "`")
			if !file.MatchString(name) {
				continue
			}
			var found []string
			for _, dir := range []string{"..", "../broker/internal"} {
				more, err := fs.Glob(os.DirFS(dir), name)
				require.NoError(t, err)
				found = append(found, more...)
			}
			if len(found) == 0 {
				t.Errorf("%s names %s, which does not exist", doc, name)
			}
		}
	}
}
