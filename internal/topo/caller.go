package topo

import (
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
)

// dsl are the packages whose frames stand between the program and the graph.
var dsl = []string{
	"github.com/moldau-stream/moldau/internal/topo.",
	"github.com/moldau-stream/moldau/internal/dsl.",
	"github.com/moldau-stream/moldau/stream.",
	"github.com/moldau-stream/moldau/join.",
}

// Caller is the place (directory/file.go:line) in the program that called the
// DSL: the first frame outside of it.
func Caller() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if f.Function != "" && !inDSL(f) {
			return Place(f.File, f.Line)
		}
		if !more {
			return "unknown place"
		}
	}
}

func inDSL(f runtime.Frame) bool {
	if strings.HasSuffix(f.File, "_test.go") {
		return false
	}
	for _, p := range dsl {
		if strings.HasPrefix(f.Function, p) {
			return true
		}
	}
	return false
}

// FunctionName is the name of a function in the program, for descriptions.
func FunctionName(f any) string {
	v := reflect.ValueOf(f)
	if v.Kind() != reflect.Func || v.IsNil() {
		return "nil"
	}
	name := runtime.FuncForPC(v.Pointer()).Name()
	return name[strings.LastIndexByte(name, '/')+1:]
}

// Place is a file and line as errors show it: the file with its directory only.
func Place(file string, line int) string {
	dir, base := filepath.Split(file)
	return filepath.Base(dir) + "/" + base + ":" + strconv.Itoa(line)
}
