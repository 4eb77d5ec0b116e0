package differential

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	parkAfter  = 100 * time.Millisecond
	answerTime = 10 * time.Second // what one has answered the other must answer within
)

// Difference is a step that two brokers answered differently.
type Difference struct {
	Sequence *Sequence
	Step     int // index of the request
	At       int // index of the step after which the answers were there
	A, B     string
	TextA    []string
	TextB    []string
	Known    string // the reason in known.go, if there is one
}

// signature names the kind of difference: API and field, without indices and values of the sequence.
func (d *Difference) signature() string {
	st := &d.Sequence.Steps[d.Step]
	a, b := firstDifference(d.TextA, d.TextB)
	return fmt.Sprintf("%s: %s=%q %s=%q", kmsg.NameForKey(st.Key), d.A, generic(a), d.B, generic(b))
}

// An element's key in a path, such as [0] or [~t1], belongs to the sequence; the name of a configuration does not.
var element = regexp.MustCompile(`\[[^\]]*\]`)
var configName = regexp.MustCompile(`^\[[a-z]+(\.[a-z]+)+\]$`)
var digits = regexp.MustCompile(`#\d+`)

func generic(line string) string {
	line = element.ReplaceAllStringFunc(line, func(e string) string {
		if configName.MatchString(e) {
			return e
		}
		return ""
	})
	return digits.ReplaceAllString(line, "#")
}

// firstDifference gives the first field that differs, as both have it.
func firstDifference(a, b []string) (string, string) {
	field := func(line string) string { f, _, _ := strings.Cut(line, " = "); return f }
	in := func(lines []string, f string) string {
		for _, l := range lines {
			if field(l) == f {
				return l
			}
		}
		return "(nothing)"
	}
	for _, l := range a {
		if !slices.Contains(b, l) {
			return l, in(b, field(l))
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			return in(a, field(l)), l
		}
	}
	return "order of", "order of"
}

// differing gives the lines of both that the other lacks, the first of many.
func differing(a, b []string) string {
	const most = 14
	var s strings.Builder
	only := func(mark string, a, b []string) {
		n := 0
		for _, l := range a {
			if slices.Contains(b, l) {
				continue
			}
			if n++; n <= most {
				fmt.Fprintf(&s, "      %s %s\n", mark, l)
			}
		}
		if n > most {
			fmt.Fprintf(&s, "      %s ... %d more\n", mark, n-most)
		}
	}
	only("-", a, b)
	only("+", b, a)
	return s.String()
}

// Report shows the sequence up to the difference, and the difference.
func (d *Difference) Report() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n  seed %d, theme %s\n", d.signature(), d.Sequence.Seed, d.Sequence.Theme)
	for i := range d.Sequence.Steps[:d.At+1] {
		mark := "  "
		if i == d.Step {
			mark = "=>"
		}
		fmt.Fprintf(&s, "  %s %2d %s\n", mark, i, d.Sequence.Steps[i].show(d.Sequence.Vars))
	}
	fmt.Fprintf(&s, "    - %s, + %s\n%s", d.A, d.B, differing(d.TextA, d.TextB))
	return s.String()
}

// run is one sequence with two sides, or with one to be recorded.
type run struct {
	seq     *Sequence
	sides   []side
	restart func(kind string) // restarts both brokers
	open    []int             // parked
	freed   int               // connections with requests behind a parked one that the present step had answered
	record  *Recording        // what sides[0] answered, if not nil
	found   []*Difference
	trace   func(i int, text []string)
	park    time.Duration // a request that neither answers for so long is parked
}

// readOnly are requests that leave no state: after a difference in one of them the sequence goes on.
func readOnly(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.Metadata, kmsg.ListOffsets, kmsg.OffsetFetch, kmsg.FindCoordinator, kmsg.DescribeGroups, kmsg.ListGroups,
		kmsg.ApiVersions, kmsg.OffsetForLeaderEpoch, kmsg.DescribeConfigs, kmsg.DescribeLogDirs, kmsg.DescribeCluster,
		kmsg.DescribeProducers, kmsg.DescribeTransactions, kmsg.ListTransactions, kmsg.ConsumerGroupDescribe,
		kmsg.ListConfigResources, kmsg.DescribeTopicPartitions, kmsg.ShareGroupDescribe, kmsg.DescribeShareGroupOffsets,
		kmsg.DescribeQuorum, kmsg.DescribeClientQuotas, kmsg.DescribeUserSCRAMCredentials, kmsg.ListPartitionReassignments,
		kmsg.DescribeACLs, kmsg.Fetch:
		return true
	}
	return false
}

// do runs the sequence until its end or a difference that makes going on pointless.
func (r *run) do() []*Difference {
	steps := r.seq.Steps
	for i := range steps {
		if steps[i].Restart != "" {
			r.open = nil
			if r.restart != nil {
				r.restart(steps[i].Restart)
			}
			for _, s := range r.sides {
				s.dropped()
			}
			continue
		}
		r.freed = 0
		behind := slices.ContainsFunc(r.open, func(o int) bool { return steps[o].Conn == steps[i].Conn })
		for _, s := range r.sides {
			s.send(i)
		}
		park := r.park
		if behind {
			park = 0
		}
		r.open = append(r.open, i)
		// What was parked before and is answered now came first.
		for n, o := range slices.Clone(r.open) {
			wait := time.Millisecond
			if o == i {
				wait = park
			}
			_ = n
			if !r.look(o, i, wait) {
				return r.found
			}
		}
		for again := true; again; { // an answer may have released others
			again = false
			for _, o := range slices.Clone(r.open) {
				if o == i && !behind {
					continue
				}
				before := len(r.open)
				if !r.look(o, i, time.Millisecond) {
					return r.found
				}
				again = again || len(r.open) < before
			}
		}
	}
	return r.found
}

// look compares the answers to step i if they are there. It returns false if the sequence cannot go on.
func (r *run) look(i, now int, park time.Duration) bool {
	var chans [2]<-chan struct{}
	for n, s := range r.sides {
		chans[n] = s.answered(i, now)
	}
	got := await(chans, len(r.sides), park)
	if got == [2]bool{} {
		return true // parked
	}
	for n := range r.sides {
		if !got[n] && r.sides[n].eventually(i) {
			got[n] = true
		}
	}
	r.open = slices.DeleteFunc(r.open, func(o int) bool { return o == i })
	if len(r.sides) == 2 && got[0] != got[1] {
		d := r.difference(i, now)
		d.TextA, d.TextB = []string{"no answer"}, []string{"no answer"}
		if got[0] {
			d.TextA = append([]string{"answered"}, r.sides[0].text(i)...)
		} else {
			d.TextB = append([]string{"answered"}, r.sides[1].text(i)...)
		}
		d.Known, _ = known(d)
		r.found = append(r.found, d)
		return false
	}
	r.retry(i, now)
	texts := make([][]string, len(r.sides))
	for n, s := range r.sides {
		texts[n] = s.text(i)
	}
	if r.trace != nil {
		r.trace(i, texts[0])
	}
	if r.record != nil {
		r.record.Answers[i] = Recorded{Text: texts[0], Codes: r.sides[0].codes(i), Again: r.sides[0].retriable(i), At: now}
	}
	if len(r.sides) == 2 && !slices.Equal(texts[0], texts[1]) {
		d := r.difference(i, now)
		d.TextA, d.TextB = texts[0], texts[1]
		var ends bool
		d.Known, ends = known(d)
		r.found = append(r.found, d)
		if ends {
			return false
		}
		// With other errors the brokers are in other states, and what follows tells nothing.
		sessions := r.seq.Theme == "sessions" && kmsg.Key(r.seq.Steps[i].Key) == kmsg.Fetch // which are a state
		if (sessions || !readOnly(r.seq.Steps[i].Key)) && !slices.Equal(slices.Sorted(slices.Values(r.sides[0].codes(i))), slices.Sorted(slices.Values(r.sides[1].codes(i)))) {
			return false
		}
	}
	for _, s := range r.sides {
		s.settle(i)
	}
	if slices.ContainsFunc(r.open, func(o int) bool { return r.seq.Steps[o].Conn == r.seq.Steps[i].Conn }) {
		r.freed++
	}
	return r.freed < 2 // requests of two connections race from here on
}

func (r *run) difference(i, now int) *Difference {
	return &Difference{Sequence: r.seq, Step: i, At: now, A: r.sides[0].name(), B: r.sides[1].name()}
}

// retry asks again where a client would, as long as that makes a difference.
func (r *run) retry(i, now int) {
	const tries, both = 80, 15
	for try := range tries {
		var again []side
		for _, s := range r.sides {
			if s.retriable(i) {
				again = append(again, s)
			}
		}
		if len(again) == 0 || len(again) == len(r.sides) && try >= both {
			return
		}
		time.Sleep(20 * time.Millisecond)
		for _, s := range again {
			s.send(i)
		}
		for _, s := range again {
			select {
			case <-s.answered(i, now):
			case <-time.After(answerTime):
				return
			}
		}
	}
}

// await waits for both, or as long as park for the first, and then longer for the other.
func await(chans [2]<-chan struct{}, n int, park time.Duration) (got [2]bool) {
	timer := time.NewTimer(park)
	defer timer.Stop()
	for left := n; left > 0; {
		select {
		case <-chans[0]:
			got[0], chans[0] = true, nil
		case <-chans[1]:
			got[1], chans[1] = true, nil
		case <-timer.C:
			// Both may be there as well as the timer.
			for k, c := range chans {
				if c == nil || got[k] {
					continue
				}
				select {
				case <-c:
					got[k], chans[k] = true, nil
				default:
				}
			}
			if got == [2]bool{} || n == 1 || got[0] && got[1] {
				return got
			}
			other := chans[0]
			if got[0] {
				other = chans[1]
			}
			if other == nil {
				return got
			}
			select {
			case <-other:
				return [2]bool{true, true}
			case <-time.After(answerTime):
				return got
			}
		}
		left--
	}
	return got
}
