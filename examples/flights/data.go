package main

import (
	"compress/gzip"
	"embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	_ "time/tzdata" // airports are in zones that the machine may not know
)

// shipped is January 2013.
//
//go:embed data/*.csv.gz
var shipped embed.FS

// Flight is a flight that took off, by its real times.
type Flight struct {
	ID       string    // carrier, number, origin and scheduled time: a key of its own
	Carrier  string    // key of an Airline
	Tail     string    // key of a Plane; empty: unknown
	Origin   string    // key of an Airport
	Dest     string    // key of an Airport
	Schedule time.Time // when it should have left
	Departed time.Time
	Delay    int // minutes
	// Closing marks no flight but the end of the data: its time lets every window close.
	Closing bool `json:",omitempty"`
}

// Arrival is the other end of a flight.
type Arrival struct {
	ID      string
	Arrived time.Time
	Clock   string // as the data has it, in the zone of the destination
}

// Weather is what an airport measured at an hour.
type Weather struct {
	Origin string
	Hour   time.Time
	Temp   float64 // degrees Fahrenheit
	Wind   float64 // miles per hour
	Visib  float64 // miles
}

// Plane is a plane by its tail number.
type Plane struct {
	Tail, Manufacturer, Model string
	Seats                     int
}

// Airport is one by its FAA code.
type Airport struct {
	Code, Name, Zone string
}

// Airline is one by its carrier code.
type Airline struct {
	Code, Name string
}

// month is everything that a directory of data holds, in the order of its files.
type month struct {
	Flights  []Flight
	Arrivals []Arrival
	Weather  []Weather
	Planes   []Plane
	Airports []Airport
	Airlines []Airline
	// Unplaced counts by reason what has no time, or none that can be known.
	Unplaced map[string]int
	Rows     int // flights in the file
}

// The reasons of Unplaced.
const (
	cancelled        = "cancelled: no departure time"
	badDeparture     = "departure clock and delay disagree"
	neverArrived     = "left and has no arrival time"
	unknownZone      = "arrival at an airport whose time zone is unknown"
	unreadableFlight = "unreadable flight"
)

// readMonth reads the five files of a directory; empty: those that are built in.
func readMonth(dir string) (*month, error) {
	var files fs.FS = shipped
	prefix := "data/"
	if dir != "" {
		files, prefix = os.DirFS(dir), ""
	}
	m := &month{Unplaced: map[string]int{}}
	zones := map[string]*time.Location{}
	for _, f := range []struct {
		name string
		add  func(row) error
	}{
		{"airlines", func(r row) error {
			m.Airlines = append(m.Airlines, Airline{r.text("carrier"), r.text("name")})
			return nil
		}},
		{"airports", func(r row) error {
			a := Airport{r.text("faa"), r.text("name"), r.text("tzone")}
			m.Airports = append(m.Airports, a)
			if zone, err := time.LoadLocation(a.Zone); err == nil && a.Zone != "" {
				zones[a.Code] = zone
			}
			return nil
		}},
		{"planes", func(r row) error {
			seats, _ := r.number("seats")
			m.Planes = append(m.Planes, Plane{r.text("tailnum"), r.text("manufacturer"), r.text("model"), int(seats)})
			return nil
		}},
		{"weather", func(r row) error {
			hour, err := time.Parse(time.RFC3339, r.text("time_hour"))
			if err != nil {
				return err
			}
			w := Weather{Origin: r.text("origin"), Hour: hour}
			w.Temp, _ = r.number("temp")
			w.Wind, _ = r.number("wind_speed")
			w.Visib, _ = r.number("visib")
			m.Weather = append(m.Weather, w)
			return nil
		}},
		{"flights", func(r row) error { m.addFlight(r, zones); return nil }},
	} {
		if err := eachRow(files, prefix+f.name+".csv.gz", f.add); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return m, nil
}

// addFlight places a flight in time, or counts why it cannot.
func (m *month) addFlight(r row, zones map[string]*time.Location) {
	m.Rows++
	hour, err := time.Parse(time.RFC3339, r.text("time_hour"))
	scheduled, ok := r.number("sched_dep_time")
	if err != nil || !ok {
		m.Unplaced[unreadableFlight]++
		return
	}
	f := Flight{
		Carrier: r.text("carrier"), Tail: r.text("tailnum"), Origin: r.text("origin"), Dest: r.text("dest"),
		Schedule: hour.Add(time.Duration(int(scheduled)%100) * time.Minute),
	}
	f.ID = fmt.Sprintf("%s%s-%s-%s", f.Carrier, r.text("flight"), f.Origin, f.Schedule.Format("0102T1504"))
	departed, ok := r.number("dep_time")
	delay, known := r.number("dep_delay")
	if !ok || !known {
		m.Unplaced[cancelled]++
		return
	}
	f.Delay = int(delay)
	f.Departed = f.Schedule.Add(time.Duration(delay) * time.Minute)
	zone := zones[f.Origin]
	if zone == nil || clockOf(f.Departed.In(zone)) != normal(int(departed)) {
		m.Unplaced[badDeparture]++
		return
	}
	m.Flights = append(m.Flights, f)
	arrived, ok := r.number("arr_time")
	if !ok {
		m.Unplaced[neverArrived]++
		return
	}
	if zones[f.Dest] == nil {
		m.Unplaced[unknownZone]++
		return
	}
	m.Arrivals = append(m.Arrivals, Arrival{ID: f.ID, Arrived: nextClock(f.Departed, int(arrived), zones[f.Dest]), Clock: r.text("arr_time")})
}

// clockOf is a local time as the data writes it: HMM.
func clockOf(t time.Time) int { return t.Hour()*100 + t.Minute() }

// normal makes 0 of 2400: both are midnight.
func normal(clock int) int { return clock % 2400 }

// nextClock is the first moment after t at which the clocks of a zone show a time: a flight that lands after midnight
// lands on the next day.
func nextClock(t time.Time, clock int, zone *time.Location) time.Time {
	clock = normal(clock)
	local := t.In(zone)
	at := time.Date(local.Year(), local.Month(), local.Day(), clock/100, clock%100, 0, 0, zone)
	if !at.After(t) {
		at = time.Date(local.Year(), local.Month(), local.Day()+1, clock/100, clock%100, 0, 0, zone)
	}
	return at.UTC()
}

// row is a line of a file with its header.
type row struct {
	columns map[string]int
	fields  []string
}

func (r row) text(column string) string {
	i, ok := r.columns[column]
	if !ok || i >= len(r.fields) || r.fields[i] == "NA" {
		return ""
	}
	return r.fields[i]
}

func (r row) number(column string) (float64, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(r.text(column)), 64)
	return n, err == nil
}

func eachRow(files fs.FS, name string, f func(row) error) error {
	file, err := files.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	lines := csv.NewReader(z)
	header, err := lines.Read()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	columns := map[string]int{}
	for i, h := range header {
		columns[h] = i
	}
	for n := 2; ; n++ {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(row{columns, fields})
		}
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", name, n, err)
		}
	}
}
