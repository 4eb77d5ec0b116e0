package avro

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	hamba "github.com/hamba/avro/v2"
)

// plan turns a value of the writer's schema into the same value of the reader's, bytes to bytes.
type plan struct {
	op     op
	name   string // of the reader's type, for messages
	writer *shape

	parts   []*plan // of a union of the writer, of the items of an array or map, of a branch of the reader's union
	steps   []step  // of a record
	fields  int     // of the reader's record if its order is another one; else 0
	symbols []int   // of an enum, by the writer's index; -1: the reader has none
	branch  int64   // of the reader's union
	reason  string  // of opFail
}

type op int

const (
	opCopy        op = iota
	opIntFloat       // and long
	opIntDouble      // and long
	opFloatDouble    //
	opEnum           //
	opRecord         //
	opArray          //
	opMap            //
	opFromUnion      // the writer's branch decides
	opIntoUnion      // the reader's branch is known
	opFail           // a branch or symbol that the reader cannot take
)

// step is what happens for one field of a record, in the order of the writer.
type step struct {
	name    string
	plan    *plan  // nil: the reader has no such field
	skip    *shape // if plan is nil and fixed too
	fixed   []byte // a default of the reader
	isFixed bool
	to      int // the reader's field
}

// incompatible says why a reader cannot read what a writer wrote.
type incompatible struct{ path, reason string }

func (e *incompatible) Error() string {
	if e.path == "" {
		return e.reason
	}
	return "field " + e.path + ": " + e.reason
}

// resolver makes plans. Types in work are remembered, for types that contain themselves.
type resolver struct {
	shapes map[hamba.Schema]*shape
	made   map[[2]hamba.Schema]*plan
	failed map[[2]hamba.Schema]error
	order  [][2]hamba.Schema
	depth  int
}

// resolve returns nil if the two are the same bytes.
func resolve(writer, reader hamba.Schema) (*plan, error) {
	if identical(writer, reader, map[[2]hamba.Schema]bool{}) {
		return nil, nil
	}
	r := resolver{shapes: map[hamba.Schema]*shape{}, made: map[[2]hamba.Schema]*plan{}, failed: map[[2]hamba.Schema]error{}}
	return r.plan(writer, reader)
}

// target is the schema behind a name.
func target(s hamba.Schema) hamba.Schema {
	if r, ok := s.(*hamba.RefSchema); ok {
		return r.Schema()
	}
	return s
}

// identical tells whether values of w and r have the same bytes and the same names.
func identical(w, r hamba.Schema, seen map[[2]hamba.Schema]bool) bool {
	w, r = target(w), target(r)
	if w.Type() != r.Type() {
		return false
	}
	pair := [2]hamba.Schema{w, r}
	if seen[pair] {
		return true
	}
	seen[pair] = true
	switch w := w.(type) {
	case *hamba.PrimitiveSchema:
		return sameDecimal(w.Logical(), r.(*hamba.PrimitiveSchema).Logical()) == nil
	case *hamba.FixedSchema:
		r := r.(*hamba.FixedSchema)
		return sameName(w, r) && w.Size() == r.Size() && sameDecimal(w.Logical(), r.Logical()) == nil
	case *hamba.EnumSchema:
		r := r.(*hamba.EnumSchema)
		return sameName(w, r) && slices.Equal(w.Symbols(), r.Symbols())
	case *hamba.ArraySchema:
		return identical(w.Items(), r.(*hamba.ArraySchema).Items(), seen)
	case *hamba.MapSchema:
		return identical(w.Values(), r.(*hamba.MapSchema).Values(), seen)
	case *hamba.UnionSchema:
		return slices.EqualFunc(w.Types(), r.(*hamba.UnionSchema).Types(), func(w, r hamba.Schema) bool {
			return typeName(w) == typeName(r) && identical(w, r, seen)
		})
	case *hamba.RecordSchema:
		return slices.EqualFunc(w.Fields(), r.(*hamba.RecordSchema).Fields(), func(w, r *hamba.Field) bool {
			return w.Name() == r.Name() && identical(w.Type(), r.Type(), seen)
		})
	}
	return true
}

func typeName(s hamba.Schema) string {
	if n, ok := target(s).(hamba.NamedSchema); ok {
		return n.FullName()
	}
	return string(target(s).Type())
}

func (r *resolver) shape(s hamba.Schema) (*shape, error) {
	s = target(s)
	if sh, ok := r.shapes[s]; ok {
		return sh, nil
	}
	sh, err := shapeOf(s)
	if err == nil {
		r.shapes[s] = sh
	}
	return sh, err
}

func (r *resolver) plan(ws, rs hamba.Schema) (*plan, error) {
	ws, rs = target(ws), target(rs)
	pair := [2]hamba.Schema{ws, rs}
	if p, ok := r.made[pair]; ok {
		return p, nil
	}
	if err, ok := r.failed[pair]; ok {
		return nil, err
	}
	if r.depth++; r.depth > maxDepth {
		return nil, &incompatible{reason: fmt.Sprintf("more than %d levels", maxDepth)}
	}
	defer func() { r.depth-- }()
	sh, err := r.shape(ws)
	if err != nil {
		return nil, err
	}
	p := &plan{name: typeName(rs), writer: sh}
	mark := len(r.order)
	r.made[pair] = p
	r.order = append(r.order, pair)
	if err := r.fill(p, ws, rs); err != nil {
		for _, pair := range r.order[mark:] { // what was made meanwhile may lead to p
			delete(r.made, pair)
		}
		r.order = r.order[:mark]
		r.failed[pair] = err
		return nil, err
	}
	return p, nil
}

func (r *resolver) fill(p *plan, ws, rs hamba.Schema) error {
	if w, ok := ws.(*hamba.UnionSchema); ok {
		return r.fromUnion(p, w, rs)
	}
	if u, ok := rs.(*hamba.UnionSchema); ok {
		return r.intoUnion(p, ws, u)
	}
	if ws.Type() != rs.Type() {
		return promote(p, ws, rs)
	}
	switch w := ws.(type) {
	case *hamba.FixedSchema:
		f := rs.(*hamba.FixedSchema)
		if !sameName(w, f) {
			return mismatch(ws, rs)
		}
		if w.Size() != f.Size() {
			return &incompatible{reason: fmt.Sprintf("the writer's %s has %d bytes, the reader's %d", w.FullName(), w.Size(), f.Size())}
		}
		return sameDecimal(w.Logical(), f.Logical())
	case *hamba.PrimitiveSchema:
		return sameDecimal(w.Logical(), rs.(*hamba.PrimitiveSchema).Logical())
	case *hamba.EnumSchema:
		return enum(p, w, rs.(*hamba.EnumSchema))
	case *hamba.ArraySchema:
		p.op = opArray
		return r.only(p, w.Items(), rs.(*hamba.ArraySchema).Items())
	case *hamba.MapSchema:
		p.op = opMap
		return r.only(p, w.Values(), rs.(*hamba.MapSchema).Values())
	case *hamba.RecordSchema:
		return r.record(p, w, rs.(*hamba.RecordSchema))
	}
	return nil // null
}

func (r *resolver) only(p *plan, w, rd hamba.Schema) error {
	part, err := r.plan(w, rd)
	p.parts = []*plan{part}
	return err
}

func mismatch(ws, rs hamba.Schema) error {
	return &incompatible{reason: fmt.Sprintf("the writer's %s is no %s of the reader", typeName(ws), typeName(rs))}
}

// sameName compares names as Avro does: without the namespace, or by an alias of the reader.
func sameName(w, r hamba.NamedSchema) bool {
	return w.Name() == r.Name() || slices.Contains(r.Aliases(), w.FullName()) || slices.Contains(r.Aliases(), w.Name())
}

func sameDecimal(w, r hamba.LogicalSchema) error {
	wd, ok1 := w.(*hamba.DecimalLogicalSchema)
	rd, ok2 := r.(*hamba.DecimalLogicalSchema)
	if ok1 && ok2 && wd.Scale() != rd.Scale() {
		return &incompatible{reason: fmt.Sprintf("the writer's decimal has the scale %d, the reader's %d", wd.Scale(), rd.Scale())}
	}
	return nil
}

// promote is for types that a wider one takes.
func promote(p *plan, ws, rs hamba.Schema) error {
	type pair struct{ w, r hamba.Type }
	switch (pair{ws.Type(), rs.Type()}) {
	case pair{hamba.Int, hamba.Long}, pair{hamba.String, hamba.Bytes}, pair{hamba.Bytes, hamba.String}:
		p.op = opCopy // their bytes are the same
	case pair{hamba.Int, hamba.Float}, pair{hamba.Long, hamba.Float}:
		p.op = opIntFloat
	case pair{hamba.Int, hamba.Double}, pair{hamba.Long, hamba.Double}:
		p.op = opIntDouble
	case pair{hamba.Float, hamba.Double}:
		p.op = opFloatDouble
	default:
		return mismatch(ws, rs)
	}
	return nil
}

func enum(p *plan, w, r *hamba.EnumSchema) error {
	if !sameName(w, r) {
		return mismatch(w, r)
	}
	p.op = opEnum
	otherwise := -1
	if r.HasDefault() {
		otherwise = slices.Index(r.Symbols(), r.Default())
	}
	for _, s := range w.Symbols() {
		i := slices.Index(r.Symbols(), s)
		if i < 0 {
			i = otherwise
		}
		p.symbols = append(p.symbols, i)
	}
	return nil
}

// fromUnion plans each branch of the writer. One that the reader cannot take fails only the values that have it.
func (r *resolver) fromUnion(p *plan, w *hamba.UnionSchema, rs hamba.Schema) error {
	p.op = opFromUnion
	var failed error
	for _, branch := range w.Types() {
		part, err := r.plan(branch, rs)
		if err != nil {
			failed = err
			part = &plan{op: opFail, name: typeName(rs), reason: err.Error()}
		}
		p.parts = append(p.parts, part)
	}
	if !slices.ContainsFunc(p.parts, func(p *plan) bool { return p.op != opFail }) {
		return failed
	}
	return nil
}

// intoUnion finds the reader's branch: one of the same name, else of the same type, else one that takes it.
func (r *resolver) intoUnion(p *plan, ws hamba.Schema, u *hamba.UnionSchema) error {
	p.op = opIntoUnion
	for _, suits := range []func(b hamba.Schema) bool{
		func(b hamba.Schema) bool { return typeName(b) == typeName(ws) },
		func(b hamba.Schema) bool { return b.Type() == ws.Type() },
		func(b hamba.Schema) bool { return b.Type() != ws.Type() },
	} {
		for i, b := range u.Types() {
			if b = target(b); !suits(b) {
				continue
			}
			if part, err := r.plan(ws, b); err == nil {
				p.branch, p.parts = int64(i), []*plan{part}
				return nil
			}
		}
	}
	return &incompatible{reason: fmt.Sprintf("the reader's union has no branch for the writer's %s", typeName(ws))}
}

// record follows Java in that the names of the records themselves do not matter.
func (r *resolver) record(p *plan, w, rd *hamba.RecordSchema) error {
	p.op = opRecord
	from, taken := matchFields(w, rd)
	for i, f := range rd.Fields() {
		if !taken[i] && !f.HasDefault() {
			return &incompatible{f.Name(), "the writer does not have it and the reader has no default for it"}
		}
	}
	next := 0 // field of the reader, while the orders agree
	inOrder := true
	var steps []step
	defaults := func(upTo int) error {
		for ; next < upTo; next++ {
			f := rd.Fields()[next]
			if taken[next] {
				continue
			}
			b, err := appendDefault(nil, f.Type(), f.Default())
			if err != nil {
				return &incompatible{f.Name(), err.Error()}
			}
			steps = append(steps, step{name: f.Name(), fixed: b, isFixed: true, to: next})
		}
		return nil
	}
	for _, f := range w.Fields() {
		i, ok := from[f.Name()]
		if !ok {
			sh, err := r.shape(f.Type())
			if err != nil {
				return err
			}
			steps = append(steps, step{name: f.Name(), skip: sh})
			continue
		}
		if err := defaults(i); err != nil {
			return err
		}
		inOrder = inOrder && i >= next
		next = max(next, i+1)
		part, err := r.plan(f.Type(), rd.Fields()[i].Type())
		if err != nil {
			if inner, ok := err.(*incompatible); ok {
				if inner.path != "" {
					inner.path = "." + inner.path
				}
				return &incompatible{rd.Fields()[i].Name() + inner.path, inner.reason}
			}
			return err
		}
		steps = append(steps, step{name: f.Name(), plan: part, to: i})
	}
	if err := defaults(len(rd.Fields())); err != nil {
		return err
	}
	if !inOrder {
		p.fields = len(rd.Fields())
	}
	p.steps = steps
	return nil
}

// matchFields finds the reader's fields by the names of the writer's, and tells which have one: those of the same
// name, and of the rest those with an alias.
func matchFields(w, rd *hamba.RecordSchema) (from map[string]int, taken []bool) {
	from, taken = map[string]int{}, make([]bool, len(rd.Fields()))
	has := map[string]bool{}
	for _, f := range w.Fields() {
		has[f.Name()] = true
	}
	match := func(i int, name string) {
		if _, used := from[name]; has[name] && !used && !taken[i] {
			from[name], taken[i] = i, true
		}
	}
	for i, f := range rd.Fields() {
		match(i, f.Name())
	}
	for i, f := range rd.Fields() {
		for _, alias := range f.Aliases() {
			match(i, alias)
		}
	}
	return from, taken
}

// appendDefault encodes the default of a field, which the parser has checked.
func appendDefault(dst []byte, s hamba.Schema, v any) ([]byte, error) {
	s = target(s)
	switch s := s.(type) {
	case *hamba.UnionSchema: // a default is of the first branch
		return appendDefault(binary.AppendVarint(dst, 0), s.Types()[0], v)
	case *hamba.EnumSchema:
		return binary.AppendVarint(dst, int64(slices.Index(s.Symbols(), fmt.Sprint(v)))), nil
	case *hamba.ArraySchema:
		items, _ := v.([]any)
		var b []byte
		for _, item := range items {
			var err error
			if b, err = appendDefault(b, s.Items(), item); err != nil {
				return dst, err
			}
		}
		return appendBlock(dst, int64(len(items)), b), nil
	case *hamba.MapSchema:
		return appendDefaultMap(dst, s, v)
	case *hamba.RecordSchema:
		m, _ := v.(map[string]any)
		for _, f := range s.Fields() {
			d, ok := m[f.Name()]
			if !ok {
				d = f.Default()
			}
			var err error
			if dst, err = appendDefault(dst, f.Type(), d); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
	return appendDefaultPrimitive(dst, s, v)
}

func appendDefaultMap(dst []byte, s *hamba.MapSchema, v any) ([]byte, error) {
	m, _ := v.(map[string]any)
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b []byte
	for _, k := range keys {
		b = append(binary.AppendVarint(b, int64(len(k))), k...)
		var err error
		if b, err = appendDefault(b, s.Values(), m[k]); err != nil {
			return dst, err
		}
	}
	return appendBlock(dst, int64(len(keys)), b), nil
}

func appendDefaultPrimitive(dst []byte, s hamba.Schema, v any) ([]byte, error) {
	switch s.Type() {
	case hamba.Null:
		return dst, nil
	case hamba.Boolean:
		if v == true {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	}
	switch v := v.(type) {
	case int:
		return binary.AppendVarint(dst, int64(v)), nil
	case int64:
		return binary.AppendVarint(dst, v), nil
	case float32:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(v)), nil
	case float64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v)), nil
	case string:
		return append(binary.AppendVarint(dst, int64(len(v))), v...), nil
	case []byte:
		return append(binary.AppendVarint(dst, int64(len(v))), v...), nil
	}
	if f, ok := s.(*hamba.FixedSchema); ok {
		return appendFixed(dst, f, v)
	}
	return dst, fmt.Errorf("a default of type %T is not supported for %s", v, s.Type())
}
