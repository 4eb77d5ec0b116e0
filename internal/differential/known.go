package differential

import (
	"bytes"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// knownDifference is a difference that stays, with its reason. docs/kafka.md lists the same.
type knownDifference struct {
	reason string
	is     func(d *Difference) bool
}

var knownDifferences = []knownDifference{
	{"Kafka fails on a request with an exception that says nothing (UNKNOWN_SERVER_ERROR); ours answers",
		func(d *Difference) bool { return fails(d.TextA) && !fails(d.TextB) }},
	{"Kafka never answers after an exception of its own; ours does",
		func(d *Difference) bool {
			if !slices.Equal(d.TextA, []string{"no answer"}) {
				return false
			}
			unreadable := bytes.Contains(d.step().Request, []byte("no subscription")) // KAFKA-20570
			return d.key() == kmsg.AlterConfigs || d.key() == kmsg.JoinGroup && unreadable
		}},
	{"records whose offset deltas are not 0, 1, 2 ... are refused; Kafka stores them as they are, and readers stumble",
		func(d *Difference) bool {
			return d.key() == kmsg.Produce && slices.ContainsFunc(d.step().Batches, func(b Batch) bool {
				return slices.ContainsFunc(b.Records, func(r Record) bool { return r.DeltaAdd != 0 })
			})
		}},
	{"streams groups are not served yet: streams.version is neither finalized nor supported",
		func(d *Difference) bool { return d.key() == kmsg.ApiVersions && d.onlyLines("streams.version") }},
}

func (d *Difference) step() *Step   { return &d.Sequence.Steps[d.Step] }
func (d *Difference) key() kmsg.Key { return kmsg.Key(d.step().Key) }

// fails tells whether an answer has the error that Kafka gives when it did not expect an exception.
func fails(text []string) bool {
	return slices.ContainsFunc(text, func(l string) bool { return strings.HasSuffix(l, "ErrorCode = -1 UNKNOWN_SERVER_ERROR") })
}

// onlyLines tells whether all lines that differ hold a text.
func (d *Difference) onlyLines(with string) bool {
	differ := func(a, b []string) bool {
		return slices.ContainsFunc(a, func(l string) bool { return !slices.Contains(b, l) && !strings.Contains(l, with) })
	}
	return !differ(d.TextA, d.TextB) && !differ(d.TextB, d.TextA)
}

// known gives the reason why two answers may differ, or "".
func known(d *Difference) string {
	for _, k := range knownDifferences {
		if k.is(d) {
			return k.reason
		}
	}
	return ""
}
