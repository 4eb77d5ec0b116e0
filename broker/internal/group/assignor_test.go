package group

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// testdata/assignors.txt has what the assignors of Apache Kafka 4.3.1 made of random
// groups that change step by step, one assignment per line:
//
//	assignor same|different topic:partitions,... member;instance;topics;had ... = result ...
func TestAssignorsDoWhatKafkasDo(t *testing.T) {
	f, err := os.Open("testdata/assignors.txt")
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	n := 0
	for lines.Scan() {
		n++
		line := lines.Text()
		question, answer, _ := strings.Cut(line, " = ")
		words := strings.Fields(question)
		spec := assignorSpec{homogeneous: words[1] == "same", partitions: map[topicID]int32{}, assigned: map[topicID]map[int32]bool{}}
		for _, w := range strings.Split(words[2], ",") {
			topic, count, _ := strings.Cut(w, ":")
			spec.partitions[numbered(topic)] = number(topic, count)
		}
		byID := map[string]assignorMember{}
		var ids []string
		for _, w := range words[3:] {
			p := strings.Split(w, ";")
			mb := assignorMember{id: p[0], had: parseTarget(p[3])}
			if p[1] != "-" {
				mb.instanceID = &p[1]
			}
			if p[2] != "" {
				for _, topic := range strings.Split(p[2], ",") {
					mb.topics = append(mb.topics, numbered(topic))
				}
			}
			for topic, partitions := range mb.had {
				if spec.assigned[topic] == nil {
					spec.assigned[topic] = map[int32]bool{}
				}
				for _, p := range partitions {
					spec.assigned[topic][p] = true
				}
			}
			byID[mb.id] = mb
			ids = append(ids, mb.id)
		}
		for _, id := range coordinator.JavaOrder(slices.Clone(ids)) {
			spec.members = append(spec.members, byID[id])
		}
		var got map[string]target
		if words[0] == "range" {
			got = assignRange(spec)
		} else {
			got = assignUniform(spec)
		}
		for i, want := range strings.Fields(answer) {
			require.Equal(t, want, renderTarget(got[ids[i]]), "line %d, member %s: %s", n, ids[i], line)
		}
	}
	require.NoError(t, lines.Err())
	require.Greater(t, n, 250)
}

func number(_, s string) int32 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		panic(err)
	}
	return int32(n)
}

// numbered is the id of the topic of that number.
func numbered(s string) (id topicID) {
	id[15] = byte(number("", s))
	return id
}

func parseTarget(s string) target {
	t := target{}
	if s == "-" {
		return t
	}
	for _, w := range strings.Split(s, ",") {
		topic, partitions, _ := strings.Cut(w, ":")
		for _, p := range strings.Split(partitions, "+") {
			t[numbered(topic)] = append(t[numbered(topic)], number("", p))
		}
	}
	return t
}

func renderTarget(t target) string {
	var out []string
	for _, topic := range sortedTopics(t) {
		if len(t[topic]) == 0 {
			continue
		}
		var ps []string
		for _, p := range t[topic] {
			ps = append(ps, strconv.Itoa(int(p)))
		}
		out = append(out, fmt.Sprintf("%d:%s", topic[15], strings.Join(ps, "+")))
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, ",")
}

// TestAssignorsGiveEveryPartitionToOneSubscriber checks what must hold for any group.
func TestAssignorsGiveEveryPartitionToOneSubscriber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := assignorSpec{partitions: map[topicID]int32{}, assigned: map[topicID]map[int32]bool{}}
		topics := rapid.IntRange(1, 5).Draw(t, "topics")
		for i := range topics {
			spec.partitions[numbered(strconv.Itoa(i+1))] = int32(rapid.IntRange(0, 12).Draw(t, "partitions"))
		}
		members := rapid.IntRange(1, 9).Draw(t, "members")
		for i := range members {
			mb := assignorMember{id: fmt.Sprintf("m%d", i)}
			for _, topic := range slices.SortedFunc(maps.Keys(spec.partitions), func(a, b topicID) int { return slices.Compare(a[:], b[:]) }) {
				if rapid.Bool().Draw(t, "subscribes") {
					mb.topics = append(mb.topics, topic)
				}
			}
			spec.members = append(spec.members, mb)
		}
		uniform := rapid.Bool().Draw(t, "uniform")
		assign := assignRange
		if uniform {
			assign = assignUniform
		}
		before := assign(spec)
		for i := range spec.members {
			spec.members[i].had = before[spec.members[i].id]
		}
		for topic, count := range spec.partitions {
			spec.assigned[topic] = map[int32]bool{}
			for p := range count {
				owners := 0
				subscribers := 0
				for _, mb := range spec.members {
					if slices.Contains(mb.topics, topic) {
						subscribers++
					}
					if slices.Contains(before[mb.id][topic], p) {
						owners++
						spec.assigned[topic][p] = true
						require.Contains(t, mb.topics, topic, "only subscribers get it")
					}
				}
				require.Equal(t, min(subscribers, 1), owners, "partition %d of %x", p, topic)
			}
		}
		if uniform {
			again := assign(spec)
			for id, had := range before {
				require.True(t, had.equal(again[id]), "nothing changed, so nothing moves: %s from %v to %v", id, had, again[id])
			}
		}
	})
}
