package differential

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// knownDifference is a difference that stays, with its reason. docs/kafka.md lists the same.
type knownDifference struct {
	reason string
	is     func(d *Difference) bool
	ends   bool // what follows in the sequence depends on it
}

var knownDifferences = []knownDifference{
	{reason: "leader epochs and coordinator epochs rise with each start of Kafka; of ours when records may have been lost",
		is: func(d *Difference) bool {
			if d.onlyLines(".LeaderEpoch = ", ".CoordinatorEpoch = ") {
				return true
			}
			restarted := slices.ContainsFunc(d.Sequence.Steps[:d.At+1], func(st Step) bool { return st.Restart != "" })
			return restarted && (d.onlyLines("DivergingEpoch.", ".records[") ||
				d.anyLine(func(l string) bool {
					return strings.HasSuffix(l, "DivergingEpoch.Epoch = EPOCH") && slices.Contains(d.TextA, l)
				}) ||
				d.anyLine(func(l string) bool {
					return strings.HasSuffix(l, "74 FENCED_LEADER_EPOCH") && slices.Contains(d.TextA, l)
				}))
		}},
	{reason: "Kafka creates a topic behind the answer to Metadata, ours before it",
		is: func(d *Difference) bool {
			asked := slices.ContainsFunc(d.Sequence.Steps[:d.At+1], func(st Step) bool {
				if st.Restart != "" {
					return false
				}
				r, ok := st.request().(*kmsg.MetadataRequest)
				return ok && (r.Version < 4 || r.AllowAutoTopicCreation)
			})
			return asked && slices.ContainsFunc(d.TextA, func(l string) bool {
				return (strings.HasSuffix(l, " UNKNOWN_TOPIC_OR_PARTITION") || strings.HasSuffix(l, " UNKNOWN_TOPIC_ID")) && !slices.Contains(d.TextB, l)
			})
		}, ends: true},
	{reason: "a request that cannot be read, behind one whose answer waits: Kafka closes the connection when that is answered, ours at once",
		is:   func(d *Difference) bool { return d.unanswered() && slices.Contains(d.TextB, "connection closed") },
		ends: true},
	{reason: "Kafka never answers some Produce requests in which a batch of a transaction cannot be read; ours does",
		is: func(d *Difference) bool {
			return d.unanswered() && d.key() == kmsg.Produce && slices.ContainsFunc(d.step().Batches, func(b Batch) bool { return b.Garbage || b.Cut > 0 })
		}, ends: true},
	{reason: "the record with the largest timestamp, which Kafka finds also if DeleteRecords has deleted it",
		is: func(d *Difference) bool {
			deleted := slices.ContainsFunc(d.Sequence.Steps[:d.At+1], func(st Step) bool { return st.Restart == "" && kmsg.Key(st.Key) == kmsg.DeleteRecords })
			return deleted && d.key() == kmsg.ListOffsets && d.onlyLines(".Timestamp = ", ".Offset = ", ".LeaderEpoch = ")
		}},
	{reason: "of a partition that is twice in a Produce request Kafka writes the last, but tells what was wrong with the other",
		is: func(d *Difference) bool {
			r, ok := d.step().request().(*kmsg.ProduceRequest)
			return ok && d.onlyLines(".ErrorCode = ", ".BaseOffset = ", ".ErrorMessage", ".LogAppendTime", ".LogStartOffset") &&
				slices.ContainsFunc(r.Topics, func(t kmsg.ProduceRequestTopic) bool {
					seen := map[int32]bool{}
					return slices.ContainsFunc(t.Partitions, func(p kmsg.ProduceRequestTopicPartition) bool {
						twice := seen[p.Partition]
						seen[p.Partition] = true
						return twice
					})
				})
		}, ends: true},
	{reason: "which of several members becomes the leader of a classic group when the last one leaves follows the order of a hash map of random ids",
		is: func(d *Difference) bool {
			return d.key() == kmsg.JoinGroup && d.onlyLines("Members[", "Leader")
		}, ends: true},
	{reason: "sasl.jaas.config of a running broker is refused, as it would not act; Kafka takes it for its next listener",
		is: func(d *Difference) bool {
			return (d.key() == kmsg.IncrementalAlterConfigs || d.key() == kmsg.AlterConfigs) && bytes.Contains(d.step().Request, []byte("sasl.jaas.config"))
		}},
	{reason: "records of 2020 are older than the retention time, which each broker looks at when it likes",
		is: func(d *Difference) bool {
			deleted := slices.ContainsFunc(d.Sequence.Steps[:d.At+1], func(st Step) bool { return st.Restart == "" && kmsg.Key(st.Key) == kmsg.DeleteRecords })
			return !deleted && (d.onlyLines(".LogStartOffset = ") || d.key() == kmsg.Fetch && slices.ContainsFunc(d.TextA, func(l string) bool {
				return strings.HasSuffix(l, "1 OFFSET_OUT_OF_RANGE") && !slices.Contains(d.TextB, l)
			}))
		}, ends: true},
	{reason: "Kafka lists aborted transactions up to where its index says that the answer may end, ours to where it ends",
		is: func(d *Difference) bool { return d.key() == kmsg.Fetch && d.onlyLines("AbortedTransactions") }},
	{reason: "a page of all topics has those of the sequences beside this one",
		is: func(d *Difference) bool {
			r, ok := d.step().request().(*kmsg.DescribeTopicPartitionsRequest)
			return ok && len(r.Topics) == 0 && d.onlyLines("NextCursor")
		}},
	{reason: "Kafka fails on a request with an exception that says nothing (UNKNOWN_SERVER_ERROR); ours answers",
		is: func(d *Difference) bool {
			return slices.ContainsFunc(d.TextA, func(l string) bool { return isFailure(l) && !slices.Contains(d.TextB, l) })
		}},
	{reason: "Kafka never answers after an exception of its own, or has another group after it; ours answers",
		is: func(d *Difference) bool {
			return d.unanswered() && d.key() == kmsg.AlterConfigs ||
				(d.unanswered() || d.key() == kmsg.JoinGroup) && d.behindJoin(func(r *kmsg.JoinGroupRequest) bool {
					names := map[string]bool{}
					for _, p := range r.Protocols {
						if bytes.Equal(p.Metadata, []byte("no subscription")) || names[p.Name] { // KAFKA-20570; no candidate to vote for
							return true
						}
						names[p.Name] = true
					}
					return false
				})
		}, ends: true},
	{reason: "Kafka never answers AddPartitionsToTxn v4+ without transactions, and WriteTxnMarkers whose last marker has no partition that exists; ours does",
		is: func(d *Difference) bool {
			return d.unanswered() && (d.key() == kmsg.AddPartitionsToTxn || d.key() == kmsg.WriteTxnMarkers)
		}},
	{reason: "Kafka never answers DescribeShareGroupOffsets about a partition that its topic does not have; ours says there is no offset",
		is: func(d *Difference) bool {
			r, ok := d.step().request().(*kmsg.DescribeShareGroupOffsetsRequest)
			return ok && d.unanswered() && slices.ContainsFunc(r.Groups, func(g kmsg.DescribeShareGroupOffsetsRequestGroup) bool {
				return slices.ContainsFunc(g.Topics, func(t kmsg.DescribeShareGroupOffsetsRequestGroupTopic) bool {
					return slices.ContainsFunc(t.Partitions, func(p int32) bool { return p != 0 })
				})
			})
		}},
	{reason: "Kafka never answers a JoinGroup that another one of the same member has overtaken on another connection; ours does",
		is: func(d *Difference) bool {
			if d.unanswered() && slices.Contains(d.TextB, "ErrorCode = 27 REBALANCE_IN_PROGRESS") {
				return true
			}
			steps := d.Sequence.Steps[:d.At+1]
			for i, st := range steps[:d.Step+1] {
				if d.unanswered() && kmsg.Key(st.Key) == kmsg.JoinGroup && st.Conn == d.step().Conn &&
					slices.ContainsFunc(steps[i:], func(o Step) bool { return o.Key == st.Key && o.Actor == st.Actor && o.Conn != st.Conn }) {
					return true
				}
			}
			return false
		}, ends: true},
	{reason: "the first ShareFetch of a partition: the state of the share group may not be read within the wait of the request; then the partition is not in the answer",
		is: func(d *Difference) bool {
			of := []string{"Topics[", "Topics = null"}
			return d.key() == kmsg.ShareFetch && d.onlyLines(of...) && !d.anyLine(func(l string) bool {
				return strings.Contains(l, ".Records") && !strings.HasSuffix(l, ".Records = empty") ||
					strings.Contains(l, ".AcquiredRecords[") || strings.Contains(l, "ErrorCode = ") && !strings.HasSuffix(l, " = 0") && !strings.HasSuffix(l, "= -1 UNKNOWN_SERVER_ERROR")
			})
		}},
	{reason: "ShareFetch with a batch size of 0 or less: Kafka's acquired records begin with a range that ends before it begins",
		is: func(d *Difference) bool {
			r, ok := d.step().request().(*kmsg.ShareFetchRequest)
			return ok && r.BatchSize <= 0 && d.onlyLines(".AcquiredRecords")
		}},
	{reason: "which of several members gets which partition follows the order of hashes of topic ids and of member ids, which are random",
		is: func(d *Difference) bool {
			if (d.key() == kmsg.ConsumerGroupHeartbeat || d.key() == kmsg.ConsumerGroupDescribe) && d.namesMembers() {
				return d.onlyLines("Assignment", "Epoch = ", "State = ")
			}
			switch d.key() {
			case kmsg.ConsumerGroupHeartbeat, kmsg.ShareGroupHeartbeat:
				return d.onlyLines("Assignment.") && !slices.Contains(d.TextA, "Assignment = null") && !slices.Contains(d.TextB, "Assignment = null")
			case kmsg.ConsumerGroupDescribe, kmsg.ShareGroupDescribe:
				count := func(text []string) (n int) {
					for _, l := range text {
						if assigned.MatchString(l) {
							n++
						}
					}
					return n
				}
				return d.onlyLines("Assignment.") && count(d.TextA) == count(d.TextB)
			}
			return false
		}, ends: true},
	{reason: "Kafka writes markers of several transactions with one request, which it does not answer itself if the topics of the last one were deleted: all wait for its timeout",
		is: func(d *Difference) bool {
			switch d.key() {
			case kmsg.InitProducerID, kmsg.EndTxn:
				return slices.Contains(d.TextA, "ErrorCode = 51 CONCURRENT_TRANSACTIONS")
			case kmsg.DescribeTransactions:
				return slices.ContainsFunc(d.TextA, func(l string) bool { return strings.Contains(l, `State = "Prepare`) && !slices.Contains(d.TextB, l) })
			}
			return false
		}, ends: true},
	{reason: "Kafka asks its transaction coordinator about several requests at once, and takes the version of the first for all: INVALID_TXN_STATE or TRANSACTION_ABORTABLE",
		is: func(d *Difference) bool {
			return (d.key() == kmsg.TxnOffsetCommit || d.key() == kmsg.Produce) && d.onlyLines("48 INVALID_TXN_STATE", "120 TRANSACTION_ABORTABLE")
		}},
	{reason: "records whose offset deltas are not 0, 1, 2 ... are refused; Kafka stores them as they are, and readers stumble",
		is: func(d *Difference) bool {
			return d.key() == kmsg.Produce && slices.ContainsFunc(d.step().Batches, func(b Batch) bool {
				return slices.ContainsFunc(b.Records, func(r Record) bool { return r.DeltaAdd != 0 })
			})
		}},
	{reason: "compressed records that are not as long as they say are refused; Kafka stores them as they are, and readers stumble",
		is: func(d *Difference) bool {
			return d.key() == kmsg.Produce && slices.ContainsFunc(d.step().Batches, func(b Batch) bool {
				return b.Codec != 0 && slices.ContainsFunc(b.Records, func(r Record) bool { return r.LengthAdd != 0 })
			})
		}},
	{reason: "streams groups are not served yet: streams.version is neither finalized nor supported",
		is: func(d *Difference) bool {
			return d.key() == kmsg.ApiVersions && d.onlyLines("streams.version") ||
				d.key() == kmsg.UpdateFeatures && bytes.Contains(d.step().Request, []byte("streams.version"))
		}},
	{reason: "the quorum is this node alone, so kraft.version stays 0; Kafka would raise it to 1, where voters can be added and removed",
		is: func(d *Difference) bool {
			return d.key() == kmsg.UpdateFeatures && bytes.Contains(d.step().Request, []byte("kraft.version"))
		}},
	{reason: "a batch that the server compresses anew has another size with Go's compressors",
		is: func(d *Difference) bool {
			return d.key() == kmsg.DescribeLogDirs && d.onlyLines(".Size = ") && d.compresses()
		}},
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

// namesMembers tells whether the brokers made up the id of a member of a consumer group, so that it differs.
func (d *Difference) namesMembers() bool {
	return slices.ContainsFunc(d.Sequence.Steps[:d.At+1], func(st Step) bool {
		if st.Restart != "" {
			return false
		}
		r, ok := st.request().(*kmsg.ConsumerGroupHeartbeatRequest)
		return ok && r.MemberID == ""
	})
}

// isFailure tells whether a line is the error that Kafka gives when it did not expect an exception.
func isFailure(line string) bool {
	return strings.HasSuffix(line, "ErrorCode = -1 UNKNOWN_SERVER_ERROR")
}

// compresses tells whether a topic of the sequence asks for a compression.
func (d *Difference) compresses() bool {
	return slices.ContainsFunc(d.Sequence.Steps[:d.Step], func(s Step) bool { return bytes.Contains(s.Request, []byte("compression.type")) })
}

// onlyLines tells whether all lines that differ hold one of some texts.
func (d *Difference) onlyLines(with ...string) bool {
	return !d.anyLine(func(l string) bool {
		return !slices.ContainsFunc(with, func(w string) bool { return strings.Contains(l, w) })
	})
}

// anyLine tells whether some line that differs is of a kind.
func (d *Difference) anyLine(is func(string) bool) bool {
	differ := func(a, b []string) bool {
		return slices.ContainsFunc(a, func(l string) bool { return !slices.Contains(b, l) && is(l) })
	}
	return differ(d.TextA, d.TextB) || differ(d.TextB, d.TextA)
}

// assigned is the line of an assigned partition.
var assigned = regexp.MustCompile(`Assignment\..*Partitions\[[^\]]*\] = `)

// known gives the reason why two answers may differ, or "", and whether the sequence ends with it.
func known(d *Difference) (reason string, ends bool) {
	for _, k := range knownDifferences {
		if k.is(d) {
			return k.reason, k.ends
		}
	}
	return "", false
}
