package main

import (
	"time"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

// Topics and stores are declared once, for the topology, the loader, the checks and the tests.
var (
	departures = stream.NewTopic("departures", serde.String, serde.JSON[Flight]()) // by origin, at the time of departure
	flights    = stream.NewTopic("flights", serde.String, serde.JSON[Flight]())    // the same by flight
	arrivals   = stream.NewTopic("arrivals", serde.String, serde.JSON[Arrival]())  // by flight, at the time of arrival
	weather    = stream.NewTopic("weather", serde.String, serde.JSON[Weather]())   // by airport, at each hour
	planes     = stream.NewTopic("planes", serde.String, serde.JSON[Plane]())
	airports   = stream.NewTopic("airports", serde.String, serde.JSON[Airport]())
	airlines   = stream.NewTopic("airlines", serde.String, serde.JSON[Airline]())

	hourly    = stream.NewTopic("hourly", window.TimeSerde(serde.String, time.Hour), serde.JSON[Hour]())
	enriched  = stream.NewTopic("enriched", serde.String, serde.JSON[Enriched]())
	journeys  = stream.NewTopic("journeys", serde.String, serde.JSON[Journey]())
	rotations = stream.NewTopic("rotations", window.SessionSerde(serde.String), serde.JSON[Rotation]())
	fleet     = stream.NewTopic("fleet", serde.String, serde.JSON[Seat]())

	hours         = state.Window("hours", serde.String, serde.JSON[Hour]())
	weatherStore  = state.Versioned("weather", serde.String, serde.JSON[Weather](), 90*24*time.Hour)
	airportStore  = state.KeyValue("airports", serde.String, serde.JSON[Airport]())
	airlineStore  = state.KeyValue("airlines", serde.String, serde.JSON[Airline]())
	planeStore    = state.KeyValue("planes", serde.String, serde.JSON[Plane]())
	flightStore   = state.KeyValue("flights", serde.String, serde.JSON[Flight]())
	seatStore     = state.KeyValue("seats", serde.String, serde.JSON[Seat]())
	rotationStore = state.Session("rotations", serde.String, serde.JSON[Rotation]())
)

// Hour sums up the departures of an airport in an hour.
type Hour struct {
	Departures, Delay int // minutes, of all together
}

// Add counts a departure.
func (h Hour) Add(f Flight) Hour { return Hour{h.Departures + 1, h.Delay + f.Delay} }

// Enriched is a departure with names and the weather of its hour. What the data lack is empty.
type Enriched struct {
	Flight  Flight
	Airline string
	To      string
	Weather Weather
}

// Journey is a departure with its arrival, which may never have come.
type Journey struct {
	Flight  Flight
	Arrived time.Time
	Landed  bool
}

// Rotation is what a plane flew without a long break.
type Rotation struct {
	Flights, Delay int
}

// Add counts a flight; Merge joins two parts that a flight between them made one.
func (r Rotation) Add(f Flight) Rotation { return Rotation{r.Flights + 1, r.Delay + f.Delay} }
func (r Rotation) Merge(o Rotation) Rotation {
	return Rotation{r.Flights + o.Flights, r.Delay + o.Delay}
}

// Seat is a flight with the plane that flew it, as far as it is known.
type Seat struct {
	Flight       string
	Manufacturer string
	Seats        int
}

// longBreak ends a rotation.
const longBreak = 8 * time.Hour

// build makes the topology:
//
//	departures --+--> per airport and hour, when the hour is over for good --> hourly
//	             +--> weather of the moment (versioned), airline, airport ---> enriched
//	flights -----+--> arrival within a day ----------------------------------> journeys
//	             +--> table, its plane by foreign key -----------------------> fleet
//	             +--> by plane: sessions ------------------------------------> rotations
//
// grace is how late a departure may come, by the times of the others in its partition.
func build(b *stream.Builder, grace time.Duration) {
	closing := func(_ string, f Flight) bool { return f.Closing }
	// The weather is declared before the departures: of two records of the same moment it comes first.
	measured := stream.TableFrom(b, weather, weatherStore)
	byAirport := stream.From(b, departures)
	byFlight := stream.From(b, flights)

	perHour := stream.WindowedBy(byAirport.GroupByKey(), window.Tumbling(time.Hour).Grace(grace))
	stream.SuppressUntilClose(stream.Aggregate(perHour, func() Hour { return Hour{} }, Hour.Add, hours), stream.Named("final-hours")).
		ToStream().To(hourly)

	withWeather := join.LeftTable(byAirport.FilterNot(closing), measured, func(f Flight, w stream.Opt[Weather]) Enriched {
		return Enriched{Flight: f, Weather: w.Or(Weather{})}
	}, stream.Named("weather-of-hour"))
	withAirline := join.LeftGlobal(withWeather, stream.GlobalFrom(b, airlines, airlineStore),
		func(_ string, e Enriched) string { return e.Flight.Carrier },
		func(e Enriched, a stream.Opt[Airline]) Enriched { e.Airline = a.Or(Airline{}).Name; return e })
	join.LeftGlobal(withAirline, stream.GlobalFrom(b, airports, airportStore),
		func(_ string, e Enriched) string { return e.Flight.Dest },
		func(e Enriched, a stream.Opt[Airport]) Enriched { e.To = a.Or(Airport{}).Name; return e }).
		To(enriched)

	join.LeftStreams(byFlight, stream.From(b, arrivals), join.Within(24*time.Hour).Before(0).Grace(grace),
		func(f Flight, a stream.Opt[Arrival]) Journey {
			arrival, landed := a.Get()
			return Journey{Flight: f, Arrived: arrival.Arrived, Landed: landed}
		}, stream.Named("journey")).
		FilterNot(func(_ string, j Journey) bool { return j.Flight.Closing }).
		To(journeys)

	flown := byFlight.FilterNot(closing)
	join.LeftForeignKey(flown.ToTable(flightStore), stream.TableFrom(b, planes, planeStore),
		func(f Flight) string { return f.Tail },
		func(f Flight, p stream.Opt[Plane]) Seat {
			plane := p.Or(Plane{})
			return Seat{Flight: f.ID, Manufacturer: plane.Manufacturer, Seats: plane.Seats}
		}, stream.Named("plane-of-flight"), stream.Materialized(seatStore)).
		ToStream().To(fleet)

	// A plane's flights come from all partitions, so in no order at all: only the whole month is late enough.
	byPlane := stream.GroupBy(flown.Filter(func(_ string, f Flight) bool { return f.Tail != "" }),
		func(f Flight) string { return f.Tail }, stream.Named("by-plane"))
	stream.AggregateSessions(stream.SessionWindowedBy(byPlane, window.Session(longBreak).Grace(62*24*time.Hour)),
		func() Rotation { return Rotation{} }, Rotation.Add, Rotation.Merge, rotationStore).
		ToStream().To(rotations)
}
