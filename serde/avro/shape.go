package avro

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	hamba "github.com/hamba/avro/v2"
)

// shape is what a schema says about bytes, and no more: enough to walk over them.
type shape struct {
	kind    kind
	name    string   // of the type, for messages
	size    int      // of fixed; number of symbols of enum
	parts   []*shape // fields of a record, branches of a union, the items of an array or map
	names   []string // of the fields of a record
	minimum int      // no value is shorter than this
	hasMaps bool     // of the whole schema: only set at the root
}

type kind int

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindLong
	kindFloat
	kindDouble
	kindBytes // and string
	kindFixed
	kindEnum
	kindRecord
	kindArray
	kindMap
	kindUnion
)

const (
	// maxDepth limits recursion in values of recursive schemas.
	maxDepth = 512
	// maxEmpty limits how many items of no bytes at all an array may have.
	maxEmpty = 1 << 12
)

var primitives = map[hamba.Type]struct {
	kind    kind
	minimum int
}{
	hamba.Null: {kindNull, 0}, hamba.Boolean: {kindBool, 1}, hamba.Int: {kindInt, 1}, hamba.Long: {kindLong, 1},
	hamba.Float: {kindFloat, 4}, hamba.Double: {kindDouble, 8}, hamba.Bytes: {kindBytes, 1}, hamba.String: {kindBytes, 1},
}

// shapeOf derives the shape of a schema.
func shapeOf(s hamba.Schema) (*shape, error) {
	c := compiler{named: map[string]*shape{}}
	root, err := c.compile(s)
	if err != nil {
		return nil, err
	}
	copied := *root // the root may be a part of itself
	copied.hasMaps = c.hasMaps
	return &copied, nil
}

type compiler struct {
	named   map[string]*shape
	hasMaps bool
}

func (c *compiler) compile(s hamba.Schema) (*shape, error) {
	if p, ok := primitives[s.Type()]; ok {
		return &shape{kind: p.kind, name: string(s.Type()), minimum: p.minimum}, nil
	}
	sh := &shape{name: string(s.Type())}
	if n, ok := s.(hamba.NamedSchema); ok && s.Type() != hamba.Ref {
		sh.name = n.FullName()
		c.named[sh.name] = sh
	}
	switch s := s.(type) {
	case *hamba.RefSchema:
		name := s.Schema().FullName()
		if sh, ok := c.named[name]; ok {
			return sh, nil
		}
		return c.compile(s.Schema()) // of another schema, by References
	case *hamba.FixedSchema:
		sh.kind, sh.size, sh.minimum = kindFixed, s.Size(), s.Size()
	case *hamba.EnumSchema:
		sh.kind, sh.size, sh.minimum = kindEnum, len(s.Symbols()), 1
	case *hamba.RecordSchema:
		sh.kind = kindRecord
		for _, f := range s.Fields() {
			p, err := c.compile(f.Type())
			if err != nil {
				return nil, err
			}
			sh.parts = append(sh.parts, p)
			sh.names = append(sh.names, f.Name())
			// 0 for a record inside itself: the bound is a lower one. Nested doubling must not overflow.
			sh.minimum = min(sh.minimum+p.minimum, 1<<30)
		}
	case *hamba.ArraySchema:
		sh.kind, sh.minimum = kindArray, 1
		return sh, c.compileParts(sh, s.Items())
	case *hamba.MapSchema:
		c.hasMaps = true
		sh.kind, sh.minimum = kindMap, 1
		return sh, c.compileParts(sh, s.Values())
	case *hamba.UnionSchema:
		sh.kind, sh.minimum = kindUnion, 1
		return sh, c.compileParts(sh, s.Types()...)
	default:
		return nil, fmt.Errorf("type %q is not supported", s.Type())
	}
	return sh, nil
}

func (c *compiler) compileParts(sh *shape, parts ...hamba.Schema) error {
	for _, s := range parts {
		p, err := c.compile(s)
		if err != nil {
			return err
		}
		sh.parts = append(sh.parts, p)
	}
	return nil
}

// malformed says what is wrong with bytes.
type malformed struct{ want, got string }

func (m *malformed) Error() string { return "want " + m.want + ", got " + m.got }

// check reports whether src is one value of the shape and nothing else.
func (s *shape) check(src []byte) error {
	w := walker{src: src}
	if err := w.walk(s, 0); err != nil {
		return err
	}
	if w.pos < len(src) {
		return &malformed{fmt.Sprintf("%d bytes", w.pos), fmt.Sprintf("%d bytes", len(src))}
	}
	return nil
}

// walker walks over a value. It allocates nothing but errors.
type walker struct {
	src []byte
	pos int
}

func (w *walker) left() int { return len(w.src) - w.pos }

func (w *walker) fail(s *shape, want, got string, args ...any) error {
	return &malformed{fmt.Sprintf("%s at byte %d for %s", want, w.pos, s.name), fmt.Sprintf(got, args...)}
}

func (w *walker) skip(s *shape, n int) error {
	if n > w.left() {
		return w.fail(s, fmt.Sprintf("%d bytes", n), "%d bytes: the input is truncated", w.left())
	}
	w.pos += n
	return nil
}

// long reads a number of at most bits bits.
func (w *walker) long(s *shape, bits int) (int64, error) {
	u, n := binary.Uvarint(w.src[w.pos:])
	if n == 0 {
		return 0, w.fail(s, "a number", "%d bytes: the input is truncated", w.left())
	}
	if n < 0 || bits < 64 && u>>bits != 0 || bits == 32 && n > 5 {
		return 0, w.fail(s, fmt.Sprintf("a number of %d bits", bits), "a larger one")
	}
	w.pos += n
	return int64(u>>1) ^ -int64(u&1), nil
}

func (w *walker) walk(s *shape, depth int) error {
	if depth > maxDepth {
		return w.fail(s, fmt.Sprintf("at most %d levels", maxDepth), "more")
	}
	switch s.kind {
	case kindNull:
		return nil
	case kindBool:
		if w.left() > 0 && w.src[w.pos] > 1 {
			return w.fail(s, "0x00 or 0x01", "0x%02x", w.src[w.pos])
		}
		return w.skip(s, 1)
	case kindInt:
		_, err := w.long(s, 32)
		return err
	case kindLong:
		_, err := w.long(s, 64)
		return err
	case kindFloat:
		return w.skip(s, 4)
	case kindDouble:
		return w.skip(s, 8)
	case kindFixed:
		return w.skip(s, s.size)
	case kindBytes:
		return w.bytes(s)
	case kindEnum:
		_, err := w.index(s, s.size)
		return err
	case kindUnion:
		i, err := w.index(s, len(s.parts))
		if err != nil {
			return err
		}
		return w.walk(s.parts[i], depth+1)
	case kindRecord:
		for i, p := range s.parts {
			if err := w.walk(p, depth+1); err != nil {
				if m, ok := err.(*malformed); ok {
					m.want += " in " + s.names[i]
				}
				return err
			}
		}
		return nil
	default: // kindArray, kindMap
		return w.blocks(s, func() error {
			if s.kind == kindMap {
				if err := w.bytes(s); err != nil {
					return err
				}
			}
			return w.walk(s.parts[0], depth+1)
		})
	}
}

func (w *walker) bytes(s *shape) error {
	n, err := w.long(s, 64)
	if err != nil {
		return err
	}
	if n < 0 || n > int64(w.left()) {
		return w.fail(s, fmt.Sprintf("a length up to %d", w.left()), "%d", n)
	}
	w.pos += int(n)
	return nil
}

func (w *walker) index(s *shape, n int) (int, error) {
	i, err := w.long(s, 32)
	if err != nil {
		return 0, err
	}
	if i < 0 || i >= int64(n) {
		return 0, w.fail(s, fmt.Sprintf("an index below %d", n), "%d", i)
	}
	return int(i), nil
}

// blocks walks over the items of an array or map.
func (w *walker) blocks(s *shape, item func() error) error {
	minimum := s.parts[0].minimum
	if s.kind == kindMap {
		minimum++
	}
	total := int64(0)
	for {
		n, err := w.long(s, 64)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		sized := n < 0
		size := int64(0)
		if sized {
			if size, err = w.long(s, 64); err != nil {
				return err
			}
			if n = -n; n < 0 || size < 0 || size > int64(w.left()) {
				return w.fail(s, fmt.Sprintf("a block of up to %d bytes", w.left()), "%d items in %d bytes", n, size)
			}
		}
		limit := int64(maxEmpty)
		if minimum > 0 {
			limit = int64(len(w.src) / minimum)
		}
		if total += n; total < 0 || total > limit || minimum > 0 && n > int64(w.left()/minimum) {
			return w.fail(s, fmt.Sprintf("at most %d items", limit), "%d", total)
		}
		start := w.pos
		for range n {
			if err := item(); err != nil {
				return err
			}
		}
		if sized && int64(w.pos-start) != size {
			return w.fail(s, fmt.Sprintf("a block of %d bytes", size), "%d", w.pos-start)
		}
	}
}

// sortMaps appends src, a value of the shape, to dst, with the entries of each map ordered by key and in
// one block.
func (s *shape) sortMaps(dst, src []byte) ([]byte, error) {
	w := walker{src: src}
	dst, err := w.rewrite(s, dst, 0)
	if err == nil && w.pos < len(src) {
		err = fmt.Errorf("%d bytes too many", len(src)-w.pos)
	}
	return dst, err
}

func (w *walker) rewrite(s *shape, dst []byte, depth int) ([]byte, error) {
	start := w.pos
	var err error
	switch {
	case depth > maxDepth:
		return dst, w.fail(s, fmt.Sprintf("at most %d levels", maxDepth), "more")
	case s.kind == kindRecord:
		for _, p := range s.parts {
			if dst, err = w.rewrite(p, dst, depth+1); err != nil {
				return dst, err
			}
		}
		return dst, nil
	case s.kind == kindUnion:
		i, err := w.index(s, len(s.parts))
		if err != nil {
			return dst, err
		}
		return w.rewrite(s.parts[i], append(dst, w.src[start:w.pos]...), depth+1)
	case s.kind == kindArray:
		n := int64(0)
		var items []byte
		err := w.blocks(s, func() (err error) {
			n++
			items, err = w.rewrite(s.parts[0], items, depth+1)
			return err
		})
		return appendBlock(dst, n, items), err
	case s.kind == kindMap:
		return w.rewriteMap(s, dst, depth)
	}
	err = w.walk(s, depth)
	return append(dst, w.src[start:w.pos]...), err
}

func (w *walker) rewriteMap(s *shape, dst []byte, depth int) ([]byte, error) {
	type pair struct{ key, entry []byte } // entry begins with the key and its length
	var pairs []pair
	err := w.blocks(s, func() error {
		start := w.pos
		if err := w.bytes(s); err != nil {
			return err
		}
		head := w.src[start:w.pos]
		_, n := binary.Uvarint(head)
		entry, err := w.rewrite(s.parts[0], bytes.Clone(head), depth+1)
		pairs = append(pairs, pair{head[n:], entry})
		return err
	})
	if err != nil {
		return dst, err
	}
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	var entries []byte
	for _, p := range pairs {
		entries = append(entries, p.entry...)
	}
	return appendBlock(dst, int64(len(pairs)), entries), nil
}

func appendBlock(dst []byte, n int64, items []byte) []byte {
	if n > 0 {
		dst = binary.AppendVarint(dst, n) // Go's varint is Avro's zig-zag
		dst = append(dst, items...)
	}
	return append(dst, 0)
}
