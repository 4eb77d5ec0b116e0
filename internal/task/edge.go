package task

// Null says which parts of a record are null. For a type that can be null, bit
// and value agree; for another type the bit is the only sign, and the value is
// its zero value, which no user function gets to see.
type Null uint8

// The bits of Null.
const (
	KeyIsNull   Null = 1 << iota
	ValueIsNull      // on a table: the new value, so that the key is deleted
	OldIsNull        // on a table: there was no value before, or it is not sent
)

// Meta travels with key and value along an edge.
type Meta struct {
	Time  int64 // milliseconds since 1970
	Null  Null
	Stale bool // on a table that keeps versions: the change is of a version that is not the latest of its key
}

// Stream is the input of a node that takes records.
type Stream[K, V any] func(k K, v V, m Meta) error

// Table is the input of a node that takes changes of a table. The key is never
// null. The old value is only there if the table sends it.
type Table[K, V any] func(k K, new, old V, m Meta) error

// Streams makes one output of the inputs of a node's children, in their order.
func Streams[K, V any](outs []any) Stream[K, V] {
	switch len(outs) {
	case 0:
		return func(K, V, Meta) error { return nil }
	case 1:
		return outs[0].(Stream[K, V])
	case 2:
		a, b := outs[0].(Stream[K, V]), outs[1].(Stream[K, V])
		return func(k K, v V, m Meta) error {
			if err := a(k, v, m); err != nil {
				return err
			}
			return b(k, v, m)
		}
	}
	all := make([]Stream[K, V], len(outs))
	for i, o := range outs {
		all[i] = o.(Stream[K, V])
	}
	return func(k K, v V, m Meta) error {
		for _, out := range all {
			if err := out(k, v, m); err != nil {
				return err
			}
		}
		return nil
	}
}

// Tables is Streams for tables.
func Tables[K, V any](outs []any) Table[K, V] {
	switch len(outs) {
	case 0:
		return func(K, V, V, Meta) error { return nil }
	case 1:
		return outs[0].(Table[K, V])
	}
	all := make([]Table[K, V], len(outs))
	for i, o := range outs {
		all[i] = o.(Table[K, V])
	}
	return func(k K, new, old V, m Meta) error {
		for _, out := range all {
			if err := out(k, new, old, m); err != nil {
				return err
			}
		}
		return nil
	}
}

// Input is a source, wired into a task. It holds the record that is next.
type Input interface {
	// Load decodes a record and returns its timestamp. The record must stay as
	// it is until Forward returned.
	Load(r *Record) (ts int64, err error)
	// Forward sends the loaded record down, depth first.
	Forward() error
}
