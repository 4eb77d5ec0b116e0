package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/examples/internal/cluster"
)

// generate makes users, one in ten of whom nobody knows, and their views: visits of a few pages, minutes apart, with
// hours between, written down with a delay of up to a minute, so not quite in order.
func generate(g *cluster.Generator) (who map[string]User, all []View) {
	rnd := g.Rand()
	who = map[string]User{}
	for i := 0; len(all) < g.Events; i++ {
		name := fmt.Sprintf("user-%d", i)
		if i%10 != 0 {
			who[name] = User{Country: fmt.Sprintf("C%d", rnd.IntN(20))}
		}
		at := g.Begin().Add(time.Duration(rnd.Int64N(int64(24 * time.Hour))))
		for range 1 + rnd.IntN(3) {
			for range 1 + rnd.IntN(10) {
				all = append(all, View{User: name, Page: fmt.Sprintf("/page-%02d", rnd.IntN(1+rnd.IntN(50))), At: at.Truncate(time.Millisecond)})
				at = at.Add(time.Second + time.Duration(rnd.Int64N(int64(10*time.Minute))))
			}
			at = at.Add(time.Hour)
		}
	}
	written := make(map[View]time.Time, len(all))
	for _, v := range all {
		written[v] = v.At.Add(time.Duration(rnd.Int64N(int64(time.Minute))))
	}
	slices.SortStableFunc(all, func(a, b View) int { return written[a].Compare(written[b]) })
	return who, all
}
