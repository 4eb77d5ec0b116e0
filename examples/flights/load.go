package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// closers are enough keys for every partition to get one: a record far behind the data closes all windows.
const closers = 200

// records are the month as the records of the input topics: what does not move first, then flights in the order of the
// schedule, which is not that of their times.
func (m *month) records() iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		ok := true
		send := func(topic, key string, at time.Time, value any) {
			if !ok {
				return
			}
			b, err := json.Marshal(value)
			ok = yield(&kgo.Record{Topic: topic, Key: []byte(key), Value: b, Timestamp: at}, err)
		}
		begin := m.Flights[0].Departed.Add(-24 * time.Hour)
		end := begin
		for _, a := range m.Airlines {
			send(airlines.Name(), a.Code, begin, a)
		}
		for _, a := range m.Airports {
			send(airports.Name(), a.Code, begin, a)
		}
		for _, p := range m.Planes {
			send(planes.Name(), p.Tail, begin, p)
		}
		for _, w := range m.Weather {
			send(weather.Name(), w.Origin, w.Hour, w)
		}
		for _, f := range m.Flights {
			send(departures.Name(), f.Origin, f.Departed, f)
			send(flights.Name(), f.ID, f.Departed, f)
			if f.Departed.After(end) {
				end = f.Departed
			}
		}
		for _, a := range m.Arrivals {
			send(arrivals.Name(), a.ID, a.Arrived, a)
		}
		end = end.Add(7 * 24 * time.Hour)
		for i := range closers {
			id := fmt.Sprintf("closing-%d", i)
			closing := Flight{ID: id, Departed: end, Closing: true}
			send(departures.Name(), id, end, closing)
			send(flights.Name(), id, end, closing)
		}
	}
}
