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
			return d.unanswered() && (d.key() == kmsg.AlterConfigs || d.behindJoin(func(r *kmsg.JoinGroupRequest) bool {
				names := map[string]bool{}
				for _, p := range r.Protocols {
					if bytes.Equal(p.Metadata, []byte("no subscription")) || names[p.Name] { // KAFKA-20570; no candidate to vote for
						return true
					}
					names[p.Name] = true
				}
				return false
			}))
		}},
	{"Kafka never answers AddPartitionsToTxn v4+ without transactions, and WriteTxnMarkers whose last marker has no partition that exists; ours does",
		func(d *Difference) bool {
			return d.unanswered() && (d.key() == kmsg.AddPartitionsToTxn || d.key() == kmsg.WriteTxnMarkers)
		}},
	{"Kafka never answers DescribeShareGroupOffsets about a partition that its topic does not have; ours says there is no offset",
		func(d *Difference) bool {
			r, ok := d.step().request().(*kmsg.DescribeShareGroupOffsetsRequest)
			return ok && d.unanswered() && slices.ContainsFunc(r.Groups, func(g kmsg.DescribeShareGroupOffsetsRequestGroup) bool {
				return slices.ContainsFunc(g.Topics, func(t kmsg.DescribeShareGroupOffsetsRequestGroupTopic) bool {
					return slices.ContainsFunc(t.Partitions, func(p int32) bool { return p != 0 })
				})
			})
		}},
	{"the first ShareFetch of a partition: Kafka may not have read the state of the share group within the wait of the request",
		func(d *Difference) bool {
			return d.key() == kmsg.ShareFetch && slices.Contains(d.TextA, "ErrorCode = 0") && slices.Contains(d.TextA, "Topics = null") && fails(d.TextB)
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

// unanswered tells whether only Apache Kafka left a request without an answer.
func (d *Difference) unanswered() bool { return slices.Equal(d.TextA, []string{"no answer"}) }

// behindJoin tells whether the request is a JoinGroup, or waits on its connection behind one, after a JoinGroup of some kind.
func (d *Difference) behindJoin(which func(*kmsg.JoinGroupRequest) bool) bool {
	steps := d.Sequence.Steps[:d.At+1]
	behind := slices.ContainsFunc(steps[:d.Step+1], func(st Step) bool {
		return kmsg.Key(st.Key) == kmsg.JoinGroup && st.Conn == d.step().Conn
	})
	return behind && slices.ContainsFunc(steps, func(st Step) bool {
		if st.Restart != "" {
			return false
		}
		r, ok := st.request().(*kmsg.JoinGroupRequest)
		return ok && which(r)
	})
}

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
