package main

import (
	"time"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// Order is what somebody wants.
type Order struct {
	ID      string
	Amount  int  // cents
	Closing bool // no order, but the end of the events
}

// Payment is what somebody paid for an order.
type Payment struct {
	Order   string
	Amount  int // cents
	Closing bool
}

// Shipment says that an order has left.
type Shipment struct {
	Order   string
	Closing bool
}

// Outcome is what has become of an order.
type Outcome struct {
	Status string
	Amount int
}

// The outcomes.
const (
	shipped    = "shipped"
	unpaid     = "cancelled: not paid in time"
	underpaid  = "cancelled: paid too little, to be paid back"
	unknown    = "payment without an order, to be paid back"
	notShipped = "alarm: paid, and not shipped in time"
	paid       = "paid" // on the way, no outcome
)

const (
	payWithin  = 15 * time.Minute
	shipWithin = time.Hour
	grace      = time.Minute
)

var (
	orders    = stream.NewTopic("orders", serde.String, serde.JSON[Order]())
	payments  = stream.NewTopic("payments", serde.String, serde.JSON[Payment]())
	shipments = stream.NewTopic("shipments", serde.String, serde.JSON[Shipment]())
	outcomes  = stream.NewTopic("outcomes", serde.String, serde.JSON[Outcome]())

	waiting = state.KeyValue("waiting-for-shipment", serde.String, serde.JSON[Waiting]())
)

// Waiting is a paid order that has not been shipped.
type Waiting struct {
	Amount int
	Until  time.Time
}

func build(b *stream.Builder) {
	settled := join.OuterStreams(stream.From(b, orders), stream.From(b, payments), join.Within(payWithin).Before(0).Grace(grace),
		func(o stream.Opt[Order], p stream.Opt[Payment]) Outcome {
			order, ordered := o.Get()
			payment, payed := p.Get()
			switch {
			case order.Closing || payment.Closing:
				return Outcome{}
			case !payed:
				return Outcome{unpaid, order.Amount}
			case !ordered:
				return Outcome{unknown, payment.Amount}
			case payment.Amount < order.Amount:
				return Outcome{underpaid, payment.Amount}
			}
			return Outcome{paid, payment.Amount}
		}, stream.Named("settle"))

	branches, rest := settled.Split(
		func(_ string, o Outcome) bool { return o.Status == paid },
		func(_ string, o Outcome) bool { return o.Status == "" },
	)
	// A paid order and its shipment meet in the store; who waits too long is found by a punctuation of stream time.
	steps := stream.MapValues(branches[0], func(o Outcome) step { return step{paid: &o} }).
		Merge(stream.MapValues(stream.From(b, shipments), func(s Shipment) step { return step{shipped: &s} }))
	stream.Process(steps, func() *shipping { return &shipping{} }, stream.Named("shipping"), waiting).To(outcomes)
	rest.To(outcomes)
}

// step is what happens to an order after it was paid.
type step struct {
	paid    *Outcome
	shipped *Shipment
}

// shipping waits for shipments of paid orders.
type shipping struct{}

// Init looks every minute of stream time for orders that have waited too long.
func (s *shipping) Init(ctx *stream.Context[string, Outcome]) error {
	ctx.Schedule(time.Minute, stream.StreamTime, func(now time.Time) error {
		orders := waiting.In(ctx)
		cur := orders.All()
		for id, w := range cur.All() {
			if now.Before(w.Until) {
				continue
			}
			if err := orders.Delete(id); err != nil {
				return err
			}
			if err := ctx.Emit(id, Outcome{notShipped, w.Amount}); err != nil {
				return err
			}
		}
		return cur.Err()
	})
	return nil
}

// Process takes the next step of an order.
func (s *shipping) Process(ctx *stream.Context[string, Outcome], r stream.Record[string, step]) error {
	orders := waiting.In(ctx)
	if r.Value.paid != nil {
		return orders.Put(r.Key, Waiting{Amount: r.Value.paid.Amount, Until: r.Time.Add(shipWithin)})
	}
	w, ok, err := orders.Get(r.Key)
	if err != nil || !ok || r.Time.After(w.Until) {
		return err // unknown, or too late: the punctuation has said so, or will
	}
	if err := orders.Delete(r.Key); err != nil {
		return err
	}
	return ctx.Emit(r.Key, Outcome{shipped, w.Amount})
}
