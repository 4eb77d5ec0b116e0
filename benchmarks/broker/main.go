// Command broker runs Moldau's broker beside Apache Kafka and prints ratios of one run.
//
//	go run ./benchmarks/broker [-run REGEXP] [-rounds 3] [-short]
//
//	warm both --> each round: each workload on one, then on the other, in turns --> medians, ratio of each pair
//
// Apache Kafka's launcher and the load program are those of ../shared/peers (its WORKLOADS.md says what each workload is); they need
// Java 17, Maven and Linux. A machine that does something else meanwhile disturbs both sides of a pair, so read the ratios, with their
// spread, and not the figures. Client and broker share the cores: CPU per GB says more of a broker than MB/s.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var c config
	flag.StringVar(&c.peers, "peers", "../shared/peers", "directory of Apache Kafka's launcher and the load program")
	flag.StringVar(&c.work, "work", filepath.Join(os.TempDir(), "moldau-peers"), "directory of what is built and of the data")
	flag.IntVar(&c.rounds, "rounds", 3, "pairs per workload")
	flag.BoolVar(&c.short, "short", false, "a quarter of the records")
	run := flag.String("run", "", "regular expression on the names of workloads")
	list := flag.Bool("list", false, "print the names of the workloads")
	flag.Parse()
	re, err := regexp.Compile(*run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "broker: -run:", err)
		os.Exit(2)
	}
	all := slices.DeleteFunc(workloads(c.short), func(w workload) bool { return !re.MatchString(w.name) })
	if *list {
		for _, w := range all {
			fmt.Println(w.name)
		}
		return
	}
	if err := c.bench(ctx, all); err != nil {
		fmt.Fprintln(os.Stderr, "broker:", err)
		os.Exit(1)
	}
}

type config struct {
	peers, work string
	rounds      int
	short       bool
}

func (c config) bench(ctx context.Context, all []workload) (err error) {
	if err := c.build(ctx); err != nil {
		return err
	}
	nodes, err := c.startNodes(ctx, all)
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.stop())
		}
	}()
	if err != nil {
		return err
	}
	results := map[string]*pairs{}
	for round := range c.rounds {
		for i, w := range all {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, c.rounds, w.name)
			sides := []string{w.kafka, w.moldau}
			if (round+i)%2 == 1 {
				slices.Reverse(sides)
			}
			got := map[string]figures{}
			for _, side := range sides {
				n := nodes[side]
				if w.own {
					n = &node{name: side}
				}
				f, err := w.measure(ctx, c, n)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", w.name, side, err)
				}
				got[side] = f
			}
			if results[w.name] == nil {
				results[w.name] = &pairs{}
			}
			results[w.name].add(got[w.kafka], got[w.moldau])
		}
	}
	fmt.Printf("\n%d pairs each; medians (least - most); ratio: Moldau / Apache Kafka of the same pair\n\n", c.rounds)
	fmt.Println("| workload | figure | Kafka | Moldau | ratio | goal | |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, w := range all {
		for _, g := range w.goals {
			fmt.Println(results[w.name].row(w, g))
		}
	}
	return nil
}

// figures are what one run measured, by the names of the load program.
type figures map[string]float64

// pairs collects what both sides measured.
type pairs struct{ kafka, moldau []figures }

func (p *pairs) add(kafka, moldau figures) {
	p.kafka = append(p.kafka, kafka)
	p.moldau = append(p.moldau, moldau)
}

// goal is a bound on the ratio of one figure.
type goal struct {
	figure  string
	bound   float64
	atLeast bool // else: at most
	// absolute says that the bound is not of the ratio but of our figure.
	absolute bool
}

func (g goal) String() string {
	sign := "≤"
	if g.atLeast {
		sign = "≥"
	}
	if g.absolute {
		return fmt.Sprintf("%s %g itself", sign, g.bound)
	}
	return fmt.Sprintf("%s %g", sign, g.bound)
}

func (p *pairs) row(w workload, g goal) string {
	var k, m, r []float64
	for i := range p.kafka {
		a, b := p.kafka[i][g.figure], p.moldau[i][g.figure]
		k, m, r = append(k, a), append(m, b), append(r, b/a)
	}
	verdict := "missed"
	judged := r
	if g.absolute {
		judged = m
	}
	if mid := median(judged); g.atLeast && mid >= g.bound || !g.atLeast && mid <= g.bound {
		verdict = "met"
	}
	return "| " + strings.Join([]string{w.name, g.figure, spread(k), spread(m), spread(r), g.String(), verdict}, " | ") + " |"
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func spread(v []float64) string {
	if len(v) == 1 {
		return fmt.Sprintf("%.3g", v[0])
	}
	return fmt.Sprintf("%.3g (%.3g - %.3g)", median(v), slices.Min(v), slices.Max(v))
}
