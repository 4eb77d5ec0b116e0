package dsl

import (
	"reflect"
	"strings"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// Option changes one operator. An option that the operator doesn't know is a
// mistake that Build reports.
type Option interface{ apply(*Options) }

// Options are the options of one call, put together.
type Options struct {
	Used       OptionSet
	Name       string
	Partitions int32
	Key, Value any // Serde[K], Serde[V]
	KeyType    reflect.Type
	ValueType  reflect.Type
	Store      state.Handle
	Emission   task.Emission
}

// OptionSet is a set of kinds of options.
type OptionSet uint32

// The kinds.
const (
	OptName OptionSet = 1 << iota
	OptPartitions
	OptSerdes
	OptStore
	OptEmission
)

var optionNames = [...]string{"Named", "Partitions", "Serdes", "Materialized", "EmitPerUpdate/EmitPerCommit"}

func (s OptionSet) String() string {
	var names []string
	for i, n := range optionNames {
		if s&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, ", ")
}

type option struct {
	kind OptionSet
	set  func(*Options)
}

func (o option) apply(c *Options) { c.Used |= o.kind; o.set(c) }

// NewOption makes an option of a kind.
func NewOption(kind OptionSet, set func(*Options)) Option { return option{kind, set} }

// Options reads the options of an operator; at and op are for mistakes.
func (b *Builder) Options(at, op string, known OptionSet, opts []Option) Options {
	var c Options
	for _, o := range opts {
		if o == nil {
			b.Graph.Mistakef(at, "%s: an option is nil", op)
			continue
		}
		o.apply(&c)
	}
	if extra := c.Used &^ known; extra != 0 {
		b.Graph.Mistakef(at, "%s does not take the option %s", op, extra)
	}
	if c.Used&OptName != 0 {
		b.Graph.CheckName(at, op+": option Named:", c.Name)
	}
	if c.Used&OptPartitions != 0 && c.Partitions < 1 {
		b.Graph.Mistakef(at, "%s: %d partitions", op, c.Partitions)
	}
	return c
}

// SerdesOf returns the serdes that the option gives, nil if there is none.
func SerdesOf[K, V any](b *Builder, at, op string, c Options) (k serde.Serde[K], v serde.Serde[V]) {
	if c.Used&OptSerdes == 0 {
		return nil, nil
	}
	if c.KeyType != reflect.TypeFor[K]() || c.ValueType != reflect.TypeFor[V]() {
		b.Graph.Mistakef(at, "%s: the option Serdes is for %s and %s, but the records have %s and %s",
			op, c.KeyType, c.ValueType, reflect.TypeFor[K](), reflect.TypeFor[V]())
		return nil, nil
	}
	k, _ = c.Key.(serde.Serde[K])
	v, _ = c.Value.(serde.Serde[V])
	return k, v
}
