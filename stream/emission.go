package stream

import (
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
)

// EmitPerUpdate makes a table send each update on at once.
func EmitPerUpdate() Option { return emitWhen(task.Emission{When: task.EmitPerUpdate}) }

// EmitPerCommit makes a table send on, at each commit, the last update of every
// key that changed: far fewer records where keys change often.
func EmitPerCommit() Option { return emitWhen(task.Emission{When: task.EmitPerCommit}) }

// EmitEvery makes a table send on the last update of every key that changed, at most once in an interval by the wall clock:
// all that has changed goes on together, at a commit, for which the application does not wait longer than for the end of
// the interval. The first update after a quiet time goes on with the next commit.
//
// What has not gone on yet is kept in a store of its own, <store>-emission, with a changelog if the table's store has one. A crash
// or a restart loses none of it, and does not begin the interval anew. A later program that has
// not this option any more leaves unsent what is in that store, until its keys change again.
func EmitEvery(interval time.Duration) Option {
	return emitWhen(task.Emission{When: task.EmitEvery, Every: interval})
}

// EmitOnChange makes a table keep to itself what leaves the value of a key as it was: the bytes of the new value are those
// of the one that went on before, or a key is deleted that is not there. It says nothing about when changes go on, so it
// goes together with EmitPerUpdate, EmitPerCommit and EmitEvery.
//
// The store takes such an update, with its time. Only nobody below hears of it: the times of records below are those of
// the first update that brought the value.
func EmitOnChange() Option {
	return dsl.NewOption(dsl.OptEmission, func(c *dsl.Options) { c.Emission.OnChange = true })
}

func emitWhen(e task.Emission) Option {
	return dsl.NewOption(dsl.OptEmission, func(c *dsl.Options) {
		c.Whens++
		c.Emission.When, c.Emission.Every = e.When, e.Every
	})
}
