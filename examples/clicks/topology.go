package main

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

// Click is a click on an advertisement.
type Click struct {
	ID uint64
	Ad string
	At time.Time
}

// clickSerde is id(8) ‖ milliseconds(8) ‖ ad: half a million events a second leave no time for JSON.
var clickSerde = serde.Of(
	func(dst []byte, c Click) ([]byte, error) {
		dst = binary.BigEndian.AppendUint64(dst, c.ID)
		dst = binary.BigEndian.AppendUint64(dst, uint64(c.At.UnixMilli()))
		return append(dst, c.Ad...), nil
	},
	func(b []byte) (Click, error) {
		if len(b) < 16 {
			return Click{}, fmt.Errorf("a click has at least 16 bytes, not %d", len(b))
		}
		return Click{
			ID: binary.BigEndian.Uint64(b),
			At: time.UnixMilli(int64(binary.BigEndian.Uint64(b[8:]))).UTC(),
			Ad: string(b[16:]),
		}, nil
	})

var (
	clicks    = stream.NewTopic("clicks", serde.String, clickSerde) // by ad
	perMinute = stream.NewTopic("clicks-per-minute", window.TimeSerde(serde.String, time.Minute), serde.Int64)

	seen   = state.KeyValue("seen", serde.Int64, serde.Bool).TTL(10 * time.Minute)
	counts = state.Window("counts", serde.String, serde.Int64)
)

func build(b *stream.Builder) {
	once := stream.ProcessValuesFunc(stream.From(b, clicks),
		func(ctx *stream.ValueContext[Click], r stream.Record[string, Click]) error {
			ids := seen.In(ctx)
			if _, again, err := ids.Get(int64(r.Value.ID)); err != nil || again {
				return err
			}
			if err := ids.Put(int64(r.Value.ID), true); err != nil {
				return err
			}
			return ctx.Emit(r.Value)
		}, stream.Named("once"), seen)
	stream.Count(stream.WindowedBy(once.GroupByKey(), window.Tumbling(time.Minute).Grace(10*time.Minute)), counts).
		ToStream().To(perMinute)
}
