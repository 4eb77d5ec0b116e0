package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/examples/internal/cluster"
)

// results are the output topics as a consumer reads them: the last value of each key.
type results struct {
	Hours     map[hourKey]Hour
	Enriched  map[string]Enriched
	Journeys  map[string]Journey
	Fleet     map[string]Seat
	Rotations map[session]Rotation
}

type hourKey struct {
	Airport string
	Start   time.Time
}

type session struct {
	Plane      string
	Start, End time.Time
}

// readResults reads all outputs.
func readResults(ctx context.Context, c *cluster.Cluster) (*results, error) {
	r := &results{map[hourKey]Hour{}, map[string]Enriched{}, map[string]Journey{}, map[string]Seat{}, map[session]Rotation{}}
	for topic, add := range map[string]func(*kgo.Record) error{
		hourly.Name(): func(rec *kgo.Record) error {
			n := len(rec.Key) - 8
			k := hourKey{string(rec.Key[:n]), millis(rec.Key[n:])}
			if _, twice := r.Hours[k]; twice {
				return fmt.Errorf("two final results of %s at %s", k.Airport, k.Start)
			}
			return put(r.Hours, k, rec.Value)
		},
		enriched.Name(): func(rec *kgo.Record) error {
			var e Enriched
			if err := json.Unmarshal(rec.Value, &e); err != nil {
				return err
			}
			if _, twice := r.Enriched[e.Flight.ID]; twice {
				return fmt.Errorf("flight %s twice", e.Flight.ID)
			}
			r.Enriched[e.Flight.ID] = e
			return nil
		},
		journeys.Name(): func(rec *kgo.Record) error {
			if _, twice := r.Journeys[string(rec.Key)]; twice {
				return fmt.Errorf("flight %s twice", rec.Key)
			}
			return put(r.Journeys, string(rec.Key), rec.Value)
		},
		fleet.Name(): func(rec *kgo.Record) error { return put(r.Fleet, string(rec.Key), rec.Value) },
		rotations.Name(): func(rec *kgo.Record) error {
			n := len(rec.Key) - 16
			return put(r.Rotations, session{string(rec.Key[:n]), millis(rec.Key[n+8:]), millis(rec.Key[n : n+8])}, rec.Value)
		},
	} {
		if err := c.ReadAll(ctx, topic, add); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func millis(b []byte) time.Time { return time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC() }

// put sets the value of a key; null removes it.
func put[K comparable, V any](m map[K]V, k K, value []byte) error {
	if value == nil {
		delete(m, k)
		return nil
	}
	var v V
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	m[k] = v
	return nil
}

// recompute makes the same results of the month with maps and sorting. departed are the departures of each partition of
// the topic in their order, which decides what is late.
func (m *month) recompute(departed map[int32][]Flight, grace time.Duration) (r *results, late int) {
	r = &results{map[hourKey]Hour{}, map[string]Enriched{}, map[string]Journey{}, map[string]Seat{}, map[session]Rotation{}}
	for _, flights := range departed {
		var now time.Time
		for _, f := range flights {
			now = latest(now, f.Departed)
			start := f.Departed.Truncate(time.Hour)
			switch {
			case !start.Add(time.Hour).After(now.Add(-grace)):
				late++
			case !f.Closing:
				k := hourKey{f.Origin, start}
				r.Hours[k] = r.Hours[k].Add(f)
			}
		}
	}

	airlines, airports, planes := map[string]string{}, map[string]string{}, map[string]Plane{}
	for _, a := range m.Airlines {
		airlines[a.Code] = a.Name
	}
	for _, a := range m.Airports {
		airports[a.Code] = a.Name
	}
	for _, p := range m.Planes {
		planes[p.Tail] = p
	}
	measured := map[string][]Weather{}
	for _, w := range m.Weather {
		measured[w.Origin] = append(measured[w.Origin], w)
	}
	arrived := map[string]time.Time{}
	for _, a := range m.Arrivals {
		arrived[a.ID] = a.Arrived
	}
	byPlane := map[string][]Flight{}
	for _, f := range m.Flights {
		e := Enriched{Flight: f, Airline: airlines[f.Carrier], To: airports[f.Dest]}
		for _, w := range measured[f.Origin] {
			if !w.Hour.After(f.Departed) && !w.Hour.Before(e.Weather.Hour) {
				e.Weather = w
			}
		}
		r.Enriched[f.ID] = e
		j := Journey{Flight: f}
		if at, ok := arrived[f.ID]; ok && at.Sub(f.Departed) <= 24*time.Hour {
			j.Arrived, j.Landed = at, true
		}
		r.Journeys[f.ID] = j
		p := planes[f.Tail]
		r.Fleet[f.ID] = Seat{Flight: f.ID, Manufacturer: p.Manufacturer, Seats: p.Seats}
		if f.Tail != "" {
			byPlane[f.Tail] = append(byPlane[f.Tail], f)
		}
	}
	for tail, flights := range byPlane {
		slices.SortFunc(flights, func(a, b Flight) int { return a.Departed.Compare(b.Departed) })
		s, sum := session{tail, flights[0].Departed, flights[0].Departed}, Rotation{}
		for _, f := range flights {
			if f.Departed.Sub(s.End) > longBreak {
				r.Rotations[s] = sum
				s, sum = session{tail, f.Departed, f.Departed}, Rotation{}
			}
			s.End, sum = f.Departed, sum.Add(f)
		}
		r.Rotations[s] = sum
	}
	return r, late
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// verify compares every result and returns an error that counts what differs.
func (r *results) verify(w io.Writer, want *results) error {
	wrong := differ(w, "hours", r.Hours, want.Hours) +
		differ(w, "enriched flights", r.Enriched, want.Enriched) +
		differ(w, "journeys", r.Journeys, want.Journeys) +
		differ(w, "planes of flights", r.Fleet, want.Fleet) +
		differ(w, "rotations", r.Rotations, want.Rotations)
	if wrong > 0 {
		return fmt.Errorf("%d results differ from the recomputation", wrong)
	}
	return nil
}

// differ says of how many keys the values differ, with examples.
func differ[K, V comparable](w io.Writer, what string, got, want map[K]V) (n int) {
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			if n++; n <= 3 {
				fmt.Fprintf(w, "WRONG: %s: %v is %v instead of %v (there: %t)\n", what, k, g, v, ok)
			}
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			if n++; n <= 3 {
				fmt.Fprintf(w, "WRONG: %s: %v is %v, and should not be there\n", what, k, v)
			}
		}
	}
	if n == 0 {
		fmt.Fprintf(w, "verified: %d %s equal a plain recomputation\n", len(want), what)
	}
	return n
}

// report prints what one would want to know.
func (r *results) report(w io.Writer, m *month, late int) {
	type sum struct{ flights, delay, landed, minutes, noWeather, noPlane, noName int }
	per := map[string]*sum{}
	for id, e := range r.Enriched {
		s := per[e.Flight.Origin]
		if s == nil {
			s = &sum{}
			per[e.Flight.Origin] = s
		}
		s.flights++
		s.delay += e.Flight.Delay
		if e.Weather.Origin == "" {
			s.noWeather++
		}
		if e.To == "" {
			s.noName++
		}
		if r.Fleet[id].Seats == 0 {
			s.noPlane++
		}
		if j := r.Journeys[id]; j.Landed {
			s.landed++
			s.minutes += int(j.Arrived.Sub(j.Flight.Departed).Minutes())
		}
	}
	for _, code := range slices.Sorted(maps.Keys(per)) {
		s := per[code]
		fmt.Fprintf(w, "%s: %5d departures, mean delay %4.1f min, %5d landed after %5.1f min on average; without weather %d, plane %d, name of the destination %d\n",
			code, s.flights, float64(s.delay)/float64(s.flights), s.landed, float64(s.minutes)/float64(max(s.landed, 1)), s.noWeather, s.noPlane, s.noName)
	}
	type busy struct {
		hourKey
		Hour
	}
	var worst []busy
	for k, h := range r.Hours {
		if h.Departures >= 10 {
			worst = append(worst, busy{k, h})
		}
	}
	slices.SortFunc(worst, func(a, b busy) int {
		return cmp.Or(cmp.Compare(b.Delay*a.Departures, a.Delay*b.Departures), cmp.Compare(a.Airport, b.Airport), a.Start.Compare(b.Start))
	})
	for _, b := range worst[:min(3, len(worst))] {
		fmt.Fprintf(w, "worst hour: %s %s, %d departures, mean delay %d min\n", b.Airport, b.Start.Format("2006-01-02 15:04Z"), b.Departures, b.Delay/b.Departures)
	}
	longest := 0
	for _, x := range r.Rotations {
		longest = max(longest, x.Flights)
	}
	fmt.Fprintf(w, "%d rotations of planes, the longest with %d flights\n", len(r.Rotations), longest)
	fmt.Fprintf(w, "%d flights in the data; %d departures came too late for their hour\n", m.Rows, late)
	for _, reason := range slices.Sorted(maps.Keys(m.Unplaced)) {
		fmt.Fprintf(w, "not placed: %5d %s\n", m.Unplaced[reason], reason)
	}
}
