package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A format is a compiled --format text: a list of functions that each append their part of a record.
//
//	%v %s value    %k key    %t topic   %p partition   %o offset   %T timestamp in ms   %h headers: a=1,b=2
//	%V %S length of the value, -1 for null    %K length of the key, -1 for null
//	%R length of the value as 4 bytes, big-endian    %% a per cent sign    \n \r \t \\ \0 \xHH
type format []func(dst []byte, r *kgo.Record) ([]byte, error)

// null is how %k, %v and %h show a null.
func compileFormat(text string, key, value decoder, null string) (format, error) {
	text, err := unescape(text)
	if err != nil {
		return nil, err
	}
	var f format
	literal := func(s string) {
		if s != "" {
			f = append(f, func(dst []byte, _ *kgo.Record) ([]byte, error) { return append(dst, s...), nil })
		}
	}
	for {
		before, after, ok := strings.Cut(text, "%")
		literal(before)
		if !ok {
			return f, nil
		}
		if after == "" {
			return nil, fmt.Errorf("ends with a single %%; write %%%% for a per cent sign")
		}
		verb := after[0]
		text = after[1:]
		switch verb {
		case '%':
			literal("%")
		case 'v', 's':
			f = append(f, func(dst []byte, r *kgo.Record) ([]byte, error) { return value.append(dst, r.Value, "value", null) })
		case 'k':
			f = append(f, func(dst []byte, r *kgo.Record) ([]byte, error) { return key.append(dst, r.Key, "key", null) })
		case 'V', 'S':
			f = append(f, number(func(r *kgo.Record) int64 { return length(r.Value) }))
		case 'K':
			f = append(f, number(func(r *kgo.Record) int64 { return length(r.Key) }))
		case 'R':
			f = append(f, func(dst []byte, r *kgo.Record) ([]byte, error) {
				return binary.BigEndian.AppendUint32(dst, uint32(int32(length(r.Value)))), nil
			})
		case 'p':
			f = append(f, number(func(r *kgo.Record) int64 { return int64(r.Partition) }))
		case 'o':
			f = append(f, number(func(r *kgo.Record) int64 { return r.Offset }))
		case 'T':
			f = append(f, number(func(r *kgo.Record) int64 { return r.Timestamp.UnixMilli() }))
		case 't':
			f = append(f, func(dst []byte, r *kgo.Record) ([]byte, error) { return append(dst, r.Topic...), nil })
		case 'h':
			f = append(f, func(dst []byte, r *kgo.Record) ([]byte, error) { return appendHeaders(dst, r.Headers), nil })
		default:
			return nil, fmt.Errorf("unknown %%%c; known: %%k %%v %%t %%p %%o %%T %%h %%K %%V %%R %%%%", verb)
		}
	}
}

func (f format) append(dst []byte, r *kgo.Record) ([]byte, error) {
	for _, part := range f {
		var err error
		if dst, err = part(dst, r); err != nil {
			return dst, fmt.Errorf("topic %s, partition %d, offset %d: %w", r.Topic, r.Partition, r.Offset, err)
		}
	}
	return dst, nil
}

func number(get func(*kgo.Record) int64) func([]byte, *kgo.Record) ([]byte, error) {
	return func(dst []byte, r *kgo.Record) ([]byte, error) { return strconv.AppendInt(dst, get(r), 10), nil }
}

// length is -1 for null, as Kafka writes it.
func length(b []byte) int64 {
	if b == nil {
		return -1
	}
	return int64(len(b))
}

func appendHeaders(dst []byte, headers []kgo.RecordHeader) []byte {
	for i, h := range headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, h.Key...)
		dst = append(dst, '=')
		if h.Value == nil {
			dst = append(dst, "NULL"...)
		}
		dst = append(dst, h.Value...)
	}
	return dst
}

// A decoder makes the bytes of a key or value readable.
type decoder struct {
	name string
	size int // bytes that a value must have; 0: any
	text func(dst, b []byte) []byte
}

var decoders = []decoder{
	{"raw", 0, func(dst, b []byte) []byte { return append(dst, b...) }},
	{"hex", 0, hex.AppendEncode},
	{"base64", 0, base64.StdEncoding.AppendEncode},
	{"quoted", 0, func(dst, b []byte) []byte { return strconv.AppendQuote(dst, string(b)) }},
	{"int32", 4, func(dst, b []byte) []byte {
		return strconv.AppendInt(dst, int64(int32(binary.BigEndian.Uint32(b))), 10)
	}},
	{"int64", 8, func(dst, b []byte) []byte { return strconv.AppendInt(dst, int64(binary.BigEndian.Uint64(b)), 10) }},
	{"float64", 8, func(dst, b []byte) []byte {
		return strconv.AppendFloat(dst, math.Float64frombits(binary.BigEndian.Uint64(b)), 'g', -1, 64)
	}},
}

const decoderNames = "raw, hex, base64, quoted, int32, int64 or float64 (big-endian, as Kafka's serializers write them)"

func decoderOf(name string) (decoder, error) {
	i := slices.IndexFunc(decoders, func(d decoder) bool { return d.name == name })
	if i < 0 {
		return decoder{}, fmt.Errorf("%q is not one of %s", name, decoderNames)
	}
	return decoders[i], nil
}

func (d decoder) append(dst, b []byte, what, null string) ([]byte, error) {
	if b == nil {
		return append(dst, null...), nil
	}
	if d.size != 0 && len(b) != d.size {
		return dst, fmt.Errorf("the %s has %d bytes and %s needs %d; --%s-as hex shows it", what, len(b), d.name, d.size, what)
	}
	return d.text(dst, b), nil
}

// unescape resolves \n \r \t \\ \0 and \xHH.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", fmt.Errorf(`%q ends with a single backslash; write \\ for one`, s)
		}
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", fmt.Errorf(`%q: \x needs two hexadecimal digits`, s)
			}
			c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf(`%q: \x needs two hexadecimal digits`, s)
			}
			b.WriteByte(byte(c))
			i += 2
		default:
			return "", fmt.Errorf(`%q: unknown escape \%c; known: \n \r \t \0 \\ \xHH`, s, s[i])
		}
	}
	return b.String(), nil
}
