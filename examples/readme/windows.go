package readme

import (
	"math"
	"time"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

var (
	temperatures = stream.NewTopic("temperatures", serde.String, serde.Float64) // by sensor
	hottest      = stream.NewTopic("hottest", window.TimeSerde(serde.String, time.Hour), serde.Float64)
	perHour      = state.Window("per-hour", serde.String, serde.Float64)
)

// hottestOfHour has one result for each sensor and hour: when the hour is over, and what is ten minutes late has come.
func hottestOfHour(b *stream.Builder) {
	byHour := stream.WindowedBy(stream.From(b, temperatures).GroupByKey(), window.Tumbling(time.Hour).Grace(10*time.Minute))
	stream.Reduce(byHour, math.Max, perHour, stream.EmitOnClose()).ToStream().To(hottest)
}

// Order is what a customer wants.
type Order struct {
	Customer string
	Amount   int
}

// Bill is an order and what became of it.
type Bill struct {
	Order
	City string // of the customer, if we know
	Paid bool   // within an hour
}

var (
	orders    = stream.NewTopic("orders", serde.String, serde.JSON[Order]())     // by order
	payments  = stream.NewTopic("payments", serde.String, serde.JSON[int]())     // by order
	customers = stream.NewTopic("customers", serde.String, serde.JSON[string]()) // city, by customer
	bills     = stream.NewTopic("bills", serde.String, serde.JSON[Bill]())
	cities    = state.KeyValue("cities", serde.String, serde.JSON[string]())
)

// billing joins each order with its payment, should there be one in time, and with the table of customers.
func billing(b *stream.Builder) {
	billed := join.LeftStreams(stream.From(b, orders), stream.From(b, payments), join.Within(0).After(time.Hour),
		func(o Order, paid stream.Opt[int]) Bill { return Bill{Order: o, Paid: paid.Or(0) >= o.Amount} })
	join.LeftGlobal(billed, stream.GlobalFrom(b, customers, cities),
		func(_ string, bill Bill) string { return bill.Customer },
		func(bill Bill, city stream.Opt[string]) Bill { bill.City = city.Or("unknown"); return bill }).
		To(bills)
}
