package conformance

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestConformance makes every topology of a corpus, drives it, and finds the answers those of Kafka Streams.
//
//	MOLDAU_CONFORMANCE=a.jsonl.gz,b.jsonl   other corpora than the shipped one, compressed or not
//	MOLDAU_CONFORMANCE_RESTART=seed         the application crashes at random steps, and loses its state or not
//	MOLDAU_CONFORMANCE_CACHE=bytes          memory for the stores, which are cached always; 1 has all read beyond the cache
//	MOLDAU_CONFORMANCE_FAMILY=table,session only these families
//	MOLDAU_CONFORMANCE_ID=table-1           only these scenarios, with all differences of each
//
// A scenario is equal if it is with all stores in memory and with all stores on disk.
func TestConformance(t *testing.T) {
	all, err := corpora("testdata/corpus.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	restart, err := restartSeed()
	if err != nil {
		t.Fatal(err)
	}
	results := make([]result, len(all))
	var work sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for i := range next {
				results[i] = compare(t, all[i], restart)
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	work.Wait()
	report(t, all, results)
}

// TestFoundScenarios has the scenarios in which other corpora found mistakes.
func TestFoundScenarios(t *testing.T) {
	all, err := load("testdata/found.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		for _, d := range compare(t, s, nil).differences {
			t.Errorf("%s: %s", s.ID, d)
		}
	}
}

// result is what came of a scenario.
type result struct {
	left        bool // not run
	notBuilt    bool
	differences []string
}

// compare runs a scenario in each mode.
func compare(t *testing.T, s *scenario, restart *int64) result {
	if sampled(s.ID) {
		return result{left: true}
	}
	var r result
	for _, m := range modes {
		d, err := attempt(t, s, m, restart)
		if errors.Is(err, errNotBuilt) {
			r.notBuilt = true
		}
		if err != nil {
			d = append(d, err.Error())
		}
		for i := range d {
			d[i] = m.name + ": " + d[i]
		}
		r.differences = append(r.differences, d...)
	}
	return r
}

// shown is how many differences of a scenario are printed, unless it was asked for by its id.
const shown = 6

// report prints the differences, the families, and the number that counts.
func report(t *testing.T, all []*scenario, results []result) {
	var families []string
	equal, total := map[string]int{}, map[string]int{}
	equals, count, notBuilt := 0, 0, 0
	limit := shown
	if os.Getenv("MOLDAU_CONFORMANCE_ID") != "" {
		limit = 1 << 20
	}
	for i, s := range all {
		r := results[i]
		if r.left {
			continue
		}
		if !slices.Contains(families, s.Family) {
			families = append(families, s.Family)
		}
		total[s.Family]++
		count++
		if len(r.differences) == 0 {
			equal[s.Family]++
			equals++
			continue
		}
		if r.notBuilt {
			notBuilt++
		}
		for n, d := range r.differences {
			if n == limit {
				fmt.Printf("%s: ... and %d differences more\n", s.ID, len(r.differences)-n)
				break
			}
			fmt.Printf("%s: %s\n", s.ID, strings.ReplaceAll(d, "\n", "\n    "))
		}
	}
	fmt.Printf("\n%-18s %s\n", "family", "equal of")
	for _, f := range families {
		mark := ""
		if equal[f] < total[f] {
			mark = "  <--"
		}
		fmt.Printf("%-18s %5d %d%s\n", f, equal[f], total[f], mark)
	}
	if notBuilt > 0 {
		fmt.Printf("\n%d scenarios have operations that are not built yet\n", notBuilt)
	}
	if count == 0 || equals < count {
		t.Fail()
	}
	fmt.Printf("\nconformance: %d of %d scenarios equal\n", equals, count)
}
