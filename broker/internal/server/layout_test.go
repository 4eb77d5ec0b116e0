package server

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every exported field of a message to something random, arrays and strings to few elements, null included.
func fill(v reflect.Value, rng *rand.Rand) {
	switch v.Kind() {
	case reflect.Pointer:
		if rng.IntN(3) == 0 {
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), rng)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && f.Name != "Version" && f.Name != "UnknownTags" {
				fill(v.Field(i), rng)
			}
		}
		if f := v.FieldByName("UnknownTags"); f.IsValid() && rng.IntN(2) == 0 {
			f.Addr().Interface().(*kmsg.Tags).Set(100+rng.Uint32N(20), make([]byte, rng.IntN(5)))
		}
	case reflect.Slice:
		n := rng.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), rng)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), rng)
		}
	case reflect.String:
		b := make([]byte, rng.IntN(5))
		for i := range b {
			b[i] = 'a' + byte(rng.IntN(26))
		}
		v.SetString(string(b))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(rng.Int64N(100))
	case reflect.Uint8:
		v.SetUint(rng.Uint64N(256))
	case reflect.Float64:
		v.SetFloat(rng.Float64())
	}
}

func randomRequest(key, version int16, rng *rand.Rand) kmsg.Request {
	req := kmsg.RequestForKey(key)
	fill(reflect.ValueOf(req).Elem(), rng)
	req.SetVersion(version)
	return req
}

// TestLayoutsAgreeWithEncoder encodes random requests of every version with kmsg and expects the walk to end where they end.
func TestLayoutsAgreeWithEncoder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for key := range layouts {
		fields, ok := layout(int16(key))
		require.True(t, ok)
		newest := kmsg.RequestForKey(int16(key)).MaxVersion()
		for version := int16(0); version <= newest; version++ {
			for range 30 {
				req := randomRequest(int16(key), version, rng)
				body := req.AppendTo(nil)
				w := walker{b: body, version: version, flexible: req.IsFlexible()}
				require.NoError(t, w.fields(fields), "%s version %d: %x", key.Name(), version, body)
				require.Empty(t, w.b, "%s version %d: %x", key.Name(), version, body)
				// No prefix is complete.
				if len(body) > 0 {
					cut := rng.IntN(len(body))
					_, err := walk(fields, body[:cut], version, req.IsFlexible())
					require.Error(t, err, "%s version %d: %d bytes of %x", key.Name(), version, cut, body)
				}
			}
		}
	}
}

// TestEveryServedRequestHasBounds checks that nothing is decoded by kmsg without a walk in front.
func TestEveryServedRequestHasBounds(t *testing.T) {
	for _, a := range apis() {
		if a.raw == nil {
			_, ok := layout(a.key)
			require.True(t, ok, kmsg.NameForKey(a.key))
		}
		require.LessOrEqual(t, a.max, kmsg.RequestForKey(a.key).MaxVersion(), kmsg.NameForKey(a.key))
	}
}

// TestHostileCounts sends the counts that make a trusting decoder allocate or loop.
func TestHostileCounts(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<32-1)
	for name, c := range map[string]struct {
		key     kmsg.Key
		version int16
		body    []byte
	}{
		"array count above the frame": {kmsg.Metadata, 1, []byte{0x7f, 0xff, 0xff, 0xff}},
		"compact array count":         {kmsg.Metadata, 12, huge},
		"tag count":                   {kmsg.ApiVersions, 3, append([]byte{1, 1}, huge...)},
		"tag length":                  {kmsg.ApiVersions, 3, append([]byte{1, 1, 1, 0}, huge...)},
		"array of wide elements":      {kmsg.DeleteTopics, 6, append([]byte{101}, make([]byte, 100)...)},
		"many elements":               {kmsg.DescribeGroups, 0, append([]byte{0, 0x10, 0, 0}, make([]byte, 2<<20)...)},
	} {
		t.Run(name, func(t *testing.T) {
			fields, _ := layout(int16(c.key))
			req := kmsg.RequestForKey(int16(c.key))
			req.SetVersion(c.version)
			_, err := walk(fields, c.body, c.version, req.IsFlexible())
			require.Error(t, err)
		})
	}
}

// FuzzRequests decodes arbitrary bodies of every request that is served: an error or a request, in bounded memory.
func FuzzRequests(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	table := map[int16]api{}
	for _, a := range apis() {
		table[a.key] = a
		for _, version := range []int16{a.min, a.max} {
			f.Add(a.key, version, kmsg.RequestForKey(a.key).AppendTo(nil))
			f.Add(a.key, version, randomRequest(a.key, version, rng).AppendTo(nil))
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		a, ok := table[key]
		if !ok || version < a.min || version > a.max {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		msg := kmsg.RequestForKey(key)
		msg.SetVersion(version)
		cost := 0
		switch kmsg.Key(key) {
		case kmsg.Produce:
			req, err := decodeProduce(body, version, msg.IsFlexible())
			if err == nil {
				cost = req.count * partitionCost
			}
		case kmsg.Fetch:
			req, err := decodeFetch(body, version, msg.IsFlexible())
			if err == nil {
				cost = req.count * partitionCost
			}
		default:
			fields, _ := layout(key)
			var err error
			if cost, err = walk(fields, body, version, msg.IsFlexible()); err == nil {
				_ = msg.ReadFrom(body) // it may still find a null where none is allowed
			}
		}
		runtime.ReadMemStats(&after)
		allocated := int(after.TotalAlloc - before.TotalAlloc)
		require.Less(t, allocated, 1<<20+cost+64*len(body), "%s version %d: %d bytes", kmsg.NameForKey(key), version, len(body))
	})
}
