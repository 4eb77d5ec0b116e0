package stream

import (
	"fmt"
	"io"
	"sync"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// Print writes each record to w as "[label]: key, value" and a line break, and ends the stream. A null is written as "null". Tasks
// write one at a time. A failed write is a failure of its record.
func (s KStream[K, V]) Print(w io.Writer, label string, opts ...Option) {
	if !s.e.Valid() {
		return
	}
	at := topo.Caller()
	if w == nil {
		s.e.B.Graph.Mistakef(at, "Print: the writer is nil")
	}
	c := s.e.B.Options(at, "Print", dsl.OptName, opts)
	n := &topo.Node{Name: s.e.B.Graph.Name(c.Name, "KSTREAM-PRINTER-"), At: at}
	var mu sync.Mutex
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			c.Node = n
			key, value := any(k), any(v)
			if m.Null&task.KeyIsNull != 0 {
				key = "null"
			}
			if m.Null&task.ValueIsNull != 0 {
				value = "null"
			}
			mu.Lock()
			defer mu.Unlock()
			if _, err := fmt.Fprintf(w, "[%s]: %v, %v\n", label, key, value); err != nil {
				return task.Fail(n, task.Process, fmt.Errorf("print: %w", err))
			}
			return nil
		})
	})
	s.e.Then(n)
}
