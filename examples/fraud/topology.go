package main

import (
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

// Payment is one payment with a card.
type Payment struct {
	Card    string
	Cents   int
	Country string
	At      time.Time
}

// The rules.
const (
	tooMany      = "more than ten payments in a minute"
	tooMuch      = "more than 5,000 in ten minutes"
	twoCountries = "two countries in half an hour"
)

var (
	payments = stream.NewTopic("payments", serde.String, serde.JSON[Payment]()) // by card
	alarms   = stream.NewTopic("alarms", serde.String, serde.String)            // rule by card

	many     = state.Window("payments-per-minute", serde.String, serde.Int64)
	spent    = state.Window("spent-in-ten-minutes", serde.String, serde.Int64)
	lastUsed = state.KeyValue("last-used", serde.String, serde.JSON[Payment]()).TTL(time.Hour)
)

func build(b *stream.Builder) {
	byCard := stream.From(b, payments)
	grouped := byCard.GroupByKey()
	const grace = time.Minute

	perMinute := stream.Count(stream.WindowedBy(grouped, window.Sliding(time.Minute).Grace(grace)), many, stream.EmitPerUpdate())
	raise(perMinute, 10, tooMany)

	inTen := stream.Aggregate(stream.WindowedBy(grouped, window.Sliding(10*time.Minute).Grace(grace)),
		func() int64 { return 0 }, func(sum int64, p Payment) int64 { return sum + int64(p.Cents) }, spent, stream.EmitPerUpdate())
	raise(inTen, 500_000, tooMuch)

	stream.ProcessFunc(byCard, func(ctx *stream.Context[string, string], r stream.Record[string, Payment]) error {
		last := lastUsed.In(ctx)
		before, ok, err := last.Get(r.Key)
		if err != nil {
			return err
		}
		if ok && before.Country != r.Value.Country && r.Value.At.Sub(before.At).Abs() <= 30*time.Minute {
			if err := ctx.Emit(r.Key, twoCountries); err != nil {
				return err
			}
		}
		return last.Put(r.Key, r.Value)
	}, stream.Named("countries"), lastUsed).To(alarms)
}

// raise writes an alarm for each window that has more than the limit.
func raise(windows stream.KTable[window.Key[string], int64], limit int64, rule string) {
	suspicious := windows.ToStream().Filter(func(_ window.Key[string], n int64) bool { return n > limit })
	stream.Map(suspicious, func(k window.Key[string], _ int64) (string, string) { return k.Key, rule }).To(alarms)
}
