package dsl

import (
	"reflect"
	"strings"
	"time"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// Option changes one operator. An option that the operator doesn't know is a
// mistake that Build reports.
type Option interface {
	apply(*Options)
	// Use marks what a processor can be given: options and stores.
	Use()
}

// Options are the options of one call, put together.
type Options struct {
	Used         OptionSet
	Name         string
	Partitions   int32
	Key, Value   any // Serde[K], Serde[V]
	KeyType      reflect.Type
	ValueType    reflect.Type
	Store        state.Handle
	Emission     task.Emission
	Whens        int // options that set when the emission is
	Grace        time.Duration
	BaseStore    string // of the names of a join's stores
	Other        any    // Serde[R] of the right side of a join, whose left side has Key and Value
	OtherType    reflect.Type
	MaxRecords   int64
	MaxBytes     int64
	StopWhenFull bool
	Start        topo.Start
	Partitioner  any // Partitioner[K, V] of these types
	PartitionerKey,
	PartitionerValue reflect.Type
	Parents any           // []Edge[K, V] of these types
	Source  string        // name of a source
	Timeout time.Duration // of a try
	Retries int
	Pause   time.Duration // before the first retry
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
	OptGrace
	OptBaseStore
	OptSides
	OptOnClose
	OptMaxRecords
	OptMaxBytes
	OptWhenFull
	OptTimeout
	OptRetries
	OptPartitioner
	OptStart
	OptParents
	OptSource
)

var optionNames = [...]string{"Named", "Partitions", "Serdes", "Materialized", "EmitPerUpdate/EmitPerCommit/EmitEvery/EmitOnChange", "Grace", "Stores", "SideSerdes",
	"EmitOnClose", "MaxRecords", "MaxBytes", "EmitEarlyWhenFull/StopWhenFull", "Timeout", "Retries", "PartitionBy/PartitionByAny", "StartAt", "AndFrom", "SourceNamed"}

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

func (o option) Use() {}

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
	if c.Used&OptSource != 0 {
		b.Graph.CheckName(at, op+": option SourceNamed:", c.Source)
	}
	if c.Used&OptBaseStore != 0 {
		b.Graph.CheckName(at, op+": option Stores:", c.BaseStore)
	}
	if c.Whens > 1 {
		b.Graph.Mistakef(at, "%s: EmitPerUpdate, EmitPerCommit and EmitEvery exclude each other", op)
	}
	if c.Emission.When == task.EmitEvery && c.Emission.Every < time.Millisecond {
		b.Graph.Mistakef(at, "%s: EmitEvery(%v): the shortest interval is a millisecond", op, c.Emission.Every)
	}
	if c.Used&OptGrace != 0 && c.Grace < 0 {
		b.Graph.Mistakef(at, "%s: a grace of %v: it cannot be negative", op, c.Grace)
	}
	if c.Used&OptPartitions != 0 && c.Partitions < 1 {
		b.Graph.Mistakef(at, "%s: %d partitions", op, c.Partitions)
	}
	if c.Used&OptTimeout != 0 && c.Timeout <= 0 {
		b.Graph.Mistakef(at, "%s: a timeout of %v: it must be longer than 0", op, c.Timeout)
	}
	if c.Used&OptRetries != 0 && (c.Retries < 0 || c.Pause < 0) {
		b.Graph.Mistakef(at, "%s: %d retries after %v: neither can be negative", op, c.Retries, c.Pause)
	}
	if c.Used&OptStart != 0 && c.Start.Ago < 0 {
		b.Graph.Mistakef(at, "%s: option StartAt: Ago(%v) is in the future", op, c.Start.Ago)
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

// SidesOf returns the serdes of the sides of a join that the option gives, nil if there is none.
func SidesOf[K, L, R any](b *Builder, at, op string, c Options) (k serde.Serde[K], l serde.Serde[L], r serde.Serde[R]) {
	if c.Used&OptSides == 0 {
		return nil, nil, nil
	}
	if c.KeyType != reflect.TypeFor[K]() || c.ValueType != reflect.TypeFor[L]() || c.OtherType != reflect.TypeFor[R]() {
		b.Graph.Mistakef(at, "%s: the option SideSerdes is for keys of %s and values of %s and %s, but the records have %s, %s and %s",
			op, c.KeyType, c.ValueType, c.OtherType, reflect.TypeFor[K](), reflect.TypeFor[L](), reflect.TypeFor[R]())
		return nil, nil, nil
	}
	k, _ = c.Key.(serde.Serde[K])
	l, _ = c.Value.(serde.Serde[L])
	r, _ = c.Other.(serde.Serde[R])
	return k, l, r
}
