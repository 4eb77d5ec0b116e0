package main

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/examples/internal/cluster"
)

// alarm is a rule that a card has broken.
type alarm struct{ card, rule string }

// generate makes payments. An honest card pays little, in its own country, once in a quarter of an hour at most; one
// event in a thousand begins a fraud, on a card that is used for nothing else. want gets the alarms that must come.
func generate(g *cluster.Generator, want map[alarm]bool) iter.Seq[Payment] {
	return func(yield func(Payment) bool) {
		rnd, at := g.Rand(), g.Begin()
		const step = 5 * time.Millisecond
		// As many cards as there are steps in a quarter of an hour: each comes round once in that time.
		cards := int(15 * time.Minute / step)
		country := func(card int) string { return fmt.Sprintf("C%d", card%7) }
		var planned []Payment // of frauds, by time
		plan := func(card, rule string, n int, every time.Duration, amount int, where func(i int) string) {
			want[alarm{card, rule}] = true
			for i := range n {
				planned = append(planned, Payment{Card: card, Cents: amount, Country: where(i), At: at.Add(time.Duration(i) * every)})
			}
		}
		fraud := 0
		for i := 0; i < g.Events; {
			at = at.Add(step)
			if rnd.IntN(1000) == 0 && i+50 < g.Events {
				fraud++
				card := fmt.Sprintf("fraud-%d", fraud)
				home := func(int) string { return "C1" }
				switch fraud % 3 {
				case 0:
					plan(card, tooMany, 12, 4*time.Second, 100, home)
				case 1:
					plan(card, tooMuch, 3, 3*time.Minute, 200_000, home)
				case 2:
					plan(card, twoCountries, 2, 20*time.Minute, 100, country)
				}
			}
			left := planned[:0]
			for _, p := range planned {
				if p.At.After(at) {
					left = append(left, p)
					continue
				}
				if i++; !yield(p) {
					return
				}
			}
			planned = left
			card := i % cards
			if i++; !yield(Payment{Card: fmt.Sprintf("card-%d", card), Cents: 100 + rnd.IntN(5_000), Country: country(card), At: at}) {
				return
			}
		}
		slices.SortStableFunc(planned, func(a, b Payment) int { return a.At.Compare(b.At) })
		for _, p := range planned { // what was begun is finished
			if !yield(p) {
				return
			}
		}
	}
}
