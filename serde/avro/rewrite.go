package avro

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"

	hamba "github.com/hamba/avro/v2"
)

// run appends src, which is a value of the writer's schema and nothing else, to dst as a value of the reader's.
// The result is at most limit bytes long: defaults of the reader could make it much longer than src.
func (p *plan) run(dst, src []byte, limit int) ([]byte, error) {
	r := rewriter{walker: walker{src: src}, limit: limit}
	dst, err := r.rewrite(p, dst, 0)
	if err == nil && r.pos < len(src) {
		err = &malformed{fmt.Sprintf("%d bytes", r.pos), fmt.Sprintf("%d bytes", len(src))}
	}
	return dst, err
}

type rewriter struct {
	walker
	limit int
}

func (r *rewriter) rewrite(p *plan, dst []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return dst, r.fail(p.writer, fmt.Sprintf("at most %d levels", maxDepth), "more")
	}
	switch p.op {
	case opCopy:
		start := r.pos
		err := r.walk(p.writer, depth)
		return append(dst, r.src[start:r.pos]...), err
	case opIntFloat, opIntDouble, opFloatDouble:
		return r.promote(p, dst)
	case opEnum:
		i, err := r.index(p.writer, len(p.symbols))
		if err != nil {
			return dst, err
		}
		if p.symbols[i] < 0 {
			return dst, r.fail(p.writer, "a symbol that the reader's "+p.name+" has", "number %d of the writer", i)
		}
		return binary.AppendVarint(dst, int64(p.symbols[i])), nil
	case opRecord:
		return r.record(p, dst, depth)
	case opArray, opMap:
		return r.items(p, dst, depth)
	case opFromUnion:
		i, err := r.index(p.writer, len(p.parts))
		if err != nil {
			return dst, err
		}
		return r.rewrite(p.parts[i], dst, depth+1)
	case opIntoUnion:
		return r.rewrite(p.parts[0], binary.AppendVarint(dst, p.branch), depth+1)
	}
	return dst, &malformed{"a value that the reader's " + p.name + " takes", fmt.Sprintf("one at byte %d that it does not: %s", r.pos, p.reason)}
}

func (r *rewriter) promote(p *plan, dst []byte) ([]byte, error) {
	if p.op == opFloatDouble {
		if err := r.skip(p.writer, 4); err != nil {
			return dst, err
		}
		f := math.Float32frombits(binary.LittleEndian.Uint32(r.src[r.pos-4:]))
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(float64(f))), nil
	}
	bits := 64
	if p.writer.kind == kindInt {
		bits = 32
	}
	n, err := r.long(p.writer, bits)
	if err != nil {
		return dst, err
	}
	if p.op == opIntFloat {
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(n))), nil
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(float64(n))), nil
}

func (r *rewriter) record(p *plan, dst []byte, depth int) ([]byte, error) {
	start := len(dst)
	type span struct{ from, to int }
	var at []span // of the reader's fields in dst, where they must change places
	if p.fields > 0 {
		at = make([]span, p.fields)
	}
	for i := range p.steps {
		s := &p.steps[i]
		from := len(dst)
		var err error
		switch {
		case s.isFixed:
			dst = append(dst, s.fixed...)
		case s.plan == nil:
			err = r.walk(s.skip, depth+1)
		default:
			dst, err = r.rewrite(s.plan, dst, depth+1)
		}
		if err == nil && len(dst) > r.limit {
			err = &malformed{fmt.Sprintf("at most %d bytes", r.limit), "more with the reader's defaults"}
		}
		if err != nil {
			if m, ok := err.(*malformed); ok {
				m.want += " in " + s.name
			}
			return dst, err
		}
		if at != nil && (s.isFixed || s.plan != nil) {
			at[s.to] = span{from - start, len(dst) - start}
		}
	}
	if at != nil {
		mixed := append([]byte(nil), dst[start:]...)
		dst = dst[:start]
		for _, f := range at {
			dst = append(dst, mixed[f.from:f.to]...)
		}
	}
	return dst, nil
}

func (r *rewriter) items(p *plan, dst []byte, depth int) ([]byte, error) {
	var items []byte
	n := int64(0)
	err := r.blocks(p.writer, func() (err error) {
		n++
		if p.op == opMap {
			start := r.pos
			if err := r.bytes(p.writer); err != nil {
				return err
			}
			items = append(items, r.src[start:r.pos]...)
		}
		if items, err = r.rewrite(p.parts[0], items, depth+1); err == nil && len(items) > r.limit {
			err = &malformed{fmt.Sprintf("at most %d bytes", r.limit), "more with the reader's defaults"}
		}
		return err
	})
	return appendBlock(dst, n, items), err
}

// appendFixed takes what the parser makes of the default of a fixed: an array of bytes.
func appendFixed(dst []byte, s *hamba.FixedSchema, v any) ([]byte, error) {
	a := reflect.ValueOf(v)
	if a.Kind() != reflect.Array || a.Len() != s.Size() || a.Type().Elem().Kind() != reflect.Uint8 {
		return dst, fmt.Errorf("a default of type %T is not %d bytes", v, s.Size())
	}
	for i := range a.Len() {
		dst = append(dst, byte(a.Index(i).Uint()))
	}
	return dst, nil
}
