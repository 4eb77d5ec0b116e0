package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/examples/internal/cluster"
)

// event is an input record.
type event struct {
	topic, key string
	at         time.Time
	value      any
}

// generate makes stories, and says how each must end. Events are in the order of their times but for a few seconds.
func generate(g *cluster.Generator) (events []event, want map[string]string) {
	rnd, at := g.Rand(), g.Begin()
	want = map[string]string{}
	after := func(from, to time.Duration) time.Duration { return from + time.Duration(rnd.Int64N(int64(to-from))) }
	for i := 0; len(events) < g.Events; i++ {
		at = at.Add(time.Duration(rnd.Int64N(int64(2 * time.Second))))
		id := fmt.Sprintf("order-%d", i)
		order := Order{ID: id, Amount: 100 + rnd.IntN(10_000)}
		pay := func(wait time.Duration, amount int) time.Time {
			paid := at.Add(wait)
			events = append(events, event{payments.Name(), id, paid, Payment{Order: id, Amount: amount}})
			return paid
		}
		ship := func(at time.Time) { events = append(events, event{shipments.Name(), id, at, Shipment{Order: id}}) }
		if kind := rnd.IntN(20); kind == 0 { // a payment that belongs to nothing
			pay(0, order.Amount)
			want[id] = unknown
			continue
		} else {
			events = append(events, event{orders.Name(), id, at, order})
			switch {
			case kind == 1:
				want[id] = unpaid
			case kind == 2:
				pay(after(0, payWithin), order.Amount/2)
				want[id] = underpaid
			case kind == 3:
				pay(after(0, payWithin), order.Amount)
				want[id] = notShipped
			case kind == 4:
				ship(pay(after(0, payWithin), order.Amount).Add(after(shipWithin+time.Minute, 2*shipWithin)))
				want[id] = notShipped
			default:
				ship(pay(after(0, payWithin), order.Amount).Add(after(time.Second, shipWithin-time.Second)))
				want[id] = shipped
			}
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	for i := range events { // small disorder, as of several servers
		if j := i + rnd.IntN(3); j < len(events) && events[j].at.Sub(events[i].at) < 2*time.Second {
			events[i], events[j] = events[j], events[i]
		}
	}
	end := at.Add(24 * time.Hour)
	for i := range 200 { // time goes on in every partition
		id := fmt.Sprintf("end-%d", i)
		events = append(events,
			event{orders.Name(), id, end, Order{ID: id, Closing: true}},
			event{payments.Name(), id, end, Payment{Order: id, Closing: true}},
			event{shipments.Name(), id, end, Shipment{Order: id, Closing: true}})
	}
	return events, want
}
