package stream

import (
	"reflect"
	"strings"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// Option changes one operator. An option that the operator doesn't know is a
// mistake that Build reports.
type Option interface{ apply(*opConfig) }

type opConfig struct {
	used       optionSet
	name       string
	partitions int32
	key, value any // Serde[K], Serde[V]
	keyType    reflect.Type
	valueType  reflect.Type
	store      state.Handle
	emission   task.Emission
}

// optionSet is a set of kinds of options.
type optionSet uint8

const (
	optName optionSet = 1 << iota
	optPartitions
	optSerdes
	optStore
	optEmission
)

func (s optionSet) String() string {
	var names []string
	for i, n := range []string{"Named", "Partitions", "Serdes", "Materialized", "EmitPerUpdate/EmitPerCommit"} {
		if s&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, ", ")
}

type option struct {
	kind optionSet
	set  func(*opConfig)
}

func (o option) apply(c *opConfig) { c.used |= o.kind; o.set(c) }

// Named names the operator: its node, and the repartition topic if it makes one
// (<application>-<name>-repartition). Named topics and stores survive changes of
// the program, generated names are numbered.
func Named(name string) Option {
	return option{optName, func(c *opConfig) { c.name = name }}
}

// Partitions sets the number of partitions of a repartition topic. Without it,
// the topic has as many as the topics it comes from.
func Partitions(n int32) Option {
	return option{optPartitions, func(c *opConfig) { c.partitions = n }}
}

// Serdes gives the serdes of a repartition topic.
func Serdes[K, V any](k serde.Serde[K], v serde.Serde[V]) Option {
	return option{optSerdes, func(c *opConfig) {
		c.key, c.value = k, v
		c.keyType, c.valueType = reflect.TypeFor[K](), reflect.TypeFor[V]()
	}}
}

// Materialized keeps the result of Filter, FilterNot or MapTable on a table in a
// store, so that it can be queried. The handle must be of the types of the result.
func Materialized(store state.Handle) Option {
	return option{optStore, func(c *opConfig) { c.store = store }}
}

// EmitPerUpdate makes a table send each update on at once.
func EmitPerUpdate() Option {
	return option{optEmission, func(c *opConfig) { c.emission = task.EmitPerUpdate }}
}

// EmitPerCommit makes a table send on, at each commit, the last update of every
// key that changed: far fewer records where keys change often.
func EmitPerCommit() Option {
	return option{optEmission, func(c *opConfig) { c.emission = task.EmitPerCommit }}
}

// options reads the options of an operator; at and op are for mistakes.
func (b *Builder) options(at, op string, known optionSet, opts []Option) opConfig {
	var c opConfig
	for _, o := range opts {
		if o == nil {
			b.g.Mistakef(at, "%s: an option is nil", op)
			continue
		}
		o.apply(&c)
	}
	if extra := c.used &^ known; extra != 0 {
		b.g.Mistakef(at, "%s does not take the option %s", op, extra)
	}
	if c.used&optName != 0 {
		b.g.CheckName(at, op+": option Named:", c.name)
	}
	if c.used&optPartitions != 0 && c.partitions < 1 {
		b.g.Mistakef(at, "%s: %d partitions", op, c.partitions)
	}
	return c
}

// serdesOf returns the serdes that the option gives, nil if there is none.
func serdesOf[K, V any](b *Builder, at, op string, c opConfig) (k serde.Serde[K], v serde.Serde[V]) {
	if c.used&optSerdes == 0 {
		return nil, nil
	}
	if c.keyType != reflect.TypeFor[K]() || c.valueType != reflect.TypeFor[V]() {
		b.g.Mistakef(at, "%s: the option Serdes is for %s and %s, but the records have %s and %s",
			op, c.keyType, c.valueType, reflect.TypeFor[K](), reflect.TypeFor[V]())
		return nil, nil
	}
	k, _ = c.key.(serde.Serde[K])
	v, _ = c.value.(serde.Serde[V])
	return k, v
}
