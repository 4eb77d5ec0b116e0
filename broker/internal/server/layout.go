package server

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A generated decoder trusts the counts that it reads: it makes an array of as many elements as the frame has bytes left, each of
// which may be a hundred bytes in memory, and it runs through as many tags as a count of 32 bits says. So every request that is
// decoded that way is first walked here: without allocating, along the layout of its version, checking each count against the
// bytes that are left, and adding up what decoding it would cost.

// Limits of one request.
const (
	maxDecodeCost = 64 << 20 // bytes of memory that a decoded request may take, frame not included
	maxTags       = 64       // tagged fields in one place; requests in use have at most two
	// What one element costs in memory, decoded and in the answer: kmsg's structs with the headers of their slices and strings.
	structCost = 256
	scalarCost = 64
	tagCost    = 64
)

// kind is the type of a field on the wire.
type kind uint8

const (
	kindFixed  kind = iota // size bytes
	kindString             // i16 length or compact; null allowed, the decoder objects if it must not be
	kindBytes              // i32 length or compact; null allowed
	kindStructs
	kindScalars // array of fixed
	kindStrings // array of strings
	kindStruct  // one struct or null: a byte, negative for null
)

type field struct {
	kind     kind
	size     int // of a fixed field or of the elements of a kindScalars
	min, max int16
	fields   []field // of the elements of a kindStructs
	least    int     // fewest bytes that an element can take, for any version
}

// layouts describes the requests that kmsg decodes. Fields stand in wire order: i8 i16 i32 i64 uuid str bytes, arrays of these
// as []i32, arrays of structs as [ ... ], a struct that may be null as ?[ ... ], and a range of versions as /3+ or /0-4. Tagged fields are not listed: every struct of
// a flexible version ends with tags.
var layouts = map[kmsg.Key]string{
	kmsg.ListOffsets:                  `i32 i8/2+ [ str [ i32 i32/4+ i64 i32/0-0 ] ] i32/10+`,
	kmsg.Metadata:                     `[ uuid/10+ str ] i8/4+ i8/8-10 i8/8+`,
	kmsg.OffsetCommit:                 `str i32/1+ str/1+ str/7+ i64/2-4 [ str/0-9 uuid/10+ [ i32 i64 i64/1-1 i32/6+ str ] ]`,
	kmsg.OffsetFetch:                  `str/0-7 [ str []i32 ]/0-7 [ str str/9+ i32/9+ [ str/0-9 uuid/10+ []i32 ] ]/8+ i8/7+`,
	kmsg.FindCoordinator:              `str/0-3 i8/1+ []str/4+`,
	kmsg.JoinGroup:                    `str i32 i32/1+ str str/5+ str [ str bytes ] str/8+`,
	kmsg.Heartbeat:                    `str i32 str str/3+`,
	kmsg.LeaveGroup:                   `str str/0-2 [ str str str/5+ ]/3+`,
	kmsg.SyncGroup:                    `str i32 str str/3+ str/5+ str/5+ [ str bytes ]`,
	kmsg.DescribeGroups:               `[]str i8/3+`,
	kmsg.ListGroups:                   `[]str/4+ []str/5+`,
	kmsg.ApiVersions:                  `str/3+ str/3+ str/5+ i32/5+`,
	kmsg.CreateTopics:                 `[ str i32 i16 [ i32 []i32 ] [ str str ] ] i32 i8/1+`,
	kmsg.DeleteTopics:                 `[]str/0-5 [ str uuid ]/6+ i32`,
	kmsg.DeleteRecords:                `[ str [ i32 i64 ] ] i32`,
	kmsg.InitProducerID:               `str i32 i64/3+ i16/3+ i8/6+ i8/6+`,
	kmsg.OffsetForLeaderEpoch:         `i32/3+ [ str [ i32 i32/2+ i32 ] ]`,
	kmsg.AddPartitionsToTxn:           `str/0-3 i64/0-3 i16/0-3 [ str []i32 ]/0-3 [ str i64 i16 i8 [ str []i32 ] ]/4+`,
	kmsg.AddOffsetsToTxn:              `str i64 i16 str`,
	kmsg.EndTxn:                       `str i64 i16 i8`,
	kmsg.WriteTxnMarkers:              `[ i64 i16 i8 [ str []i32 ] i32 i8/2+ ]`,
	kmsg.TxnOffsetCommit:              `str str i64 i16 i32/3+ str/3+ str/3+ [ str/0-5 uuid/6+ [ i32 i64 i32/2+ str ] ]`,
	kmsg.DescribeConfigs:              `[ i8 str []str ] i8/1+ i8/3+`,
	kmsg.CreatePartitions:             `[ str i32 [ []i32 ] ] i32 i8`,
	kmsg.DeleteGroups:                 `[]str`,
	kmsg.IncrementalAlterConfigs:      `[ i8 str [ str i8 str ] ] i8`,
	kmsg.AlterConfigs:                 `[ i8 str [ str str ] ] i8`,
	kmsg.ListConfigResources:          `[]i8/1+`,
	kmsg.DescribeTopicPartitions:      `[ str ] i32 ?[ str i32 ]`,
	kmsg.DescribeQuorum:               `[ str [ i32 ] ]`,
	kmsg.UpdateFeatures:               `i32 [ str i16 i8/0-0 i8/1+ ] i8/1+`,
	kmsg.SASLHandshake:                `str`,
	kmsg.SASLAuthenticate:             `bytes`,
	kmsg.DescribeUserSCRAMCredentials: `[ str ]`,
	kmsg.AlterUserSCRAMCredentials:    `[ str i8 ] [ str i8 i32 bytes bytes ]`,
	kmsg.ConsumerGroupHeartbeat:       `str str i32 str str i32 []str str/1+ str [ uuid []i32 ]`,
	kmsg.ConsumerGroupDescribe:        `[]str i8`,
	kmsg.OffsetDelete:                 `str [ str [ i32 ] ]`,
	kmsg.DescribeCluster:              `i8 i8/1+ i8/2+`,
	kmsg.DescribeACLs:                 `i8 str i8/1+ str str i8 i8`,
	kmsg.CreateACLs:                   `[ i8 str i8/1+ str str i8 i8 ]`,
	kmsg.DeleteACLs:                   `[ i8 str i8/1+ str str i8 i8 ]`,
	kmsg.DescribeLogDirs:              `[ str []i32 ]`,
	kmsg.ElectLeaders:                 `i8/1+ [ str []i32 ] i32`,
	kmsg.AlterPartitionAssignments:    `i32 i8/1+ [ str [ i32 []i32 ] ]`,
	kmsg.ListPartitionReassignments:   `i32 [ str []i32 ]`,
	kmsg.DescribeClientQuotas:         `[ str i8 str ] i8`,
	kmsg.AlterClientQuotas:            `[ [ str str ] [ str i64 i8 ] ] i8`,
	kmsg.DescribeProducers:            `[ str []i32 ]`,
	kmsg.DescribeTransactions:         `[]str`,
	kmsg.ListTransactions:             `[]str []i64 i64/1+ str/2+`,
	kmsg.ShareGroupHeartbeat:          `str str i32 str []str`,
	kmsg.ShareGroupDescribe:           `[]str i8`,
	kmsg.ShareFetch:                   `str str i32 i32 i32 i32 i32/1+ i32/1+ i8/2+ i8/2+ [ uuid [ i32 i32/0-0 [ i64 i64 []i8 ] ] ] [ uuid []i32 ]`,
	kmsg.ShareAcknowledge:             `str str i32 i8/2+ [ uuid [ i32 [ i64 i64 []i8 ] ] ]`,
	kmsg.DescribeShareGroupOffsets:    `[ str [ str []i32 ] ]`,
	kmsg.AlterShareGroupOffsets:       `str [ str [ i32 i64 ] ]`,
	kmsg.DeleteShareGroupOffsets:      `str [ str ]`,
}

// layout gives the fields of a request; ok is false if it has no layout.
func layout(key int16) (fields []field, ok bool) {
	text, ok := layouts[kmsg.Key(key)]
	if !ok {
		return nil, false
	}
	p := layoutParser{words: strings.Fields(text)}
	fields = p.fields()
	if len(p.words) > 0 {
		panic(fmt.Sprintf("layout of key %d: unexpected %q", key, p.words))
	}
	return fields, true
}

type layoutParser struct{ words []string }

func (p *layoutParser) fields() []field {
	var out []field
	for len(p.words) > 0 && !strings.HasPrefix(p.words[0], "]") {
		word := p.words[0]
		p.words = p.words[1:]
		f := field{max: math.MaxInt16}
		name, versions, _ := strings.Cut(word, "/")
		switch {
		case name == "[", name == "?[":
			f.kind = kindStructs
			if name == "?[" {
				f.kind = kindStruct
			}
			f.fields = p.fields()
			_, versions, _ = strings.Cut(p.words[0], "/")
			p.words = p.words[1:]
			for _, sub := range f.fields {
				if sub.min == 0 && sub.max == math.MaxInt16 {
					f.least += sub.leastBytes()
				}
			}
			f.least = max(f.least, 1)
		case name == "[]str":
			f.kind, f.least = kindStrings, 1
		case strings.HasPrefix(name, "[]"):
			f.kind, f.size = kindScalars, fixedSize(name[2:])
			f.least = f.size
		case name == "str":
			f.kind = kindString
		case name == "bytes":
			f.kind = kindBytes
		default:
			f.size = fixedSize(name)
		}
		if versions != "" {
			f.min, f.max = versionRange(versions)
		}
		out = append(out, f)
	}
	return out
}

// leastBytes is what the field takes at least, in any version that has it.
func (f field) leastBytes() int {
	if f.kind == kindFixed {
		return f.size
	}
	return 1 // a compact null or empty
}

func fixedSize(name string) int {
	switch name {
	case "i8":
		return 1
	case "i16":
		return 2
	case "i32":
		return 4
	case "i64":
		return 8
	case "uuid":
		return 16
	}
	panic(fmt.Sprintf("layout: unknown type %q", name))
}

func versionRange(s string) (from, to int16) {
	number := func(s string) int16 {
		n, err := strconv.ParseInt(s, 10, 16)
		if err != nil {
			panic(fmt.Sprintf("layout: version %q", s))
		}
		return int16(n)
	}
	if low, ok := strings.CutSuffix(s, "+"); ok {
		return number(low), math.MaxInt16
	}
	low, high, _ := strings.Cut(s, "-")
	return number(low), number(high)
}

// walker checks one request body against its layout.
type walker struct {
	b        []byte
	version  int16
	flexible bool
	cost     int
}

// walk gives the memory that decoding the body takes, or why it must not be decoded.
func walk(fields []field, body []byte, version int16, flexible bool) (cost int, err error) {
	w := walker{b: body, version: version, flexible: flexible}
	if err := w.fields(fields); err != nil {
		return 0, err
	}
	return w.cost, nil
}

func (w *walker) fields(fields []field) error {
	for i := range fields {
		f := &fields[i]
		if w.version < f.min || w.version > f.max {
			continue
		}
		var err error
		switch f.kind {
		case kindFixed:
			err = w.skip(f.size)
		case kindString:
			err = w.string()
		case kindBytes:
			err = w.bytes()
		case kindStruct:
			err = w.nullable(f)
		default:
			err = w.array(f)
		}
		if err != nil {
			return err
		}
	}
	if w.flexible {
		return w.tags()
	}
	return nil
}

func (w *walker) nullable(f *field) error {
	if len(w.b) == 0 {
		return errShort
	}
	null := int8(w.b[0]) < 0
	if err := w.skip(1); err != nil || null {
		return err
	}
	if err := w.charge(1, structCost); err != nil {
		return err
	}
	return w.fields(f.fields)
}

func (w *walker) array(f *field) error {
	n, err := w.length(4)
	if err != nil || n <= 0 {
		return err
	}
	if n > len(w.b)/f.least {
		return fmt.Errorf("array of %d elements in %d bytes", n, len(w.b))
	}
	if f.kind == kindScalars {
		if err := w.charge(n, scalarCost); err != nil {
			return err
		}
		return w.skip(n * f.size)
	}
	if err := w.charge(n, structCost); err != nil {
		return err
	}
	for range n {
		if f.kind == kindStrings {
			err = w.string()
		} else {
			err = w.fields(f.fields)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) charge(n, each int) error {
	w.cost += n * each
	if w.cost > maxDecodeCost {
		return fmt.Errorf("the request would take more than %d bytes of memory", maxDecodeCost)
	}
	return nil
}

func (w *walker) skip(n int) error {
	if n > len(w.b) {
		return fmt.Errorf("%w: %d bytes missing", errShort, n-len(w.b))
	}
	w.b = w.b[n:]
	return nil
}

// length reads the length of a string (wide 2), or of bytes or an array (wide 4); -1 is null.
func (w *walker) length(wide int) (int, error) {
	switch {
	case w.flexible:
		n, err := w.uvarint()
		return n - 1, err
	case len(w.b) < wide:
		return 0, errShort
	case wide == 2:
		n := int16(binary.BigEndian.Uint16(w.b))
		w.b = w.b[2:]
		return int(n), nil
	default:
		n := int32(binary.BigEndian.Uint32(w.b))
		w.b = w.b[4:]
		return int(n), nil
	}
}

func (w *walker) uvarint() (int, error) {
	n, size := binary.Uvarint(w.b)
	if size <= 0 || n > math.MaxInt32 {
		return 0, errShort
	}
	w.b = w.b[size:]
	return int(n), nil
}

func (w *walker) string() error {
	n, err := w.length(2)
	if err != nil || n <= 0 {
		return err
	}
	if n > maxString {
		return errLongString(n)
	}
	w.cost += n
	return w.skip(n)
}

func (w *walker) bytes() error {
	n, err := w.length(4)
	if err != nil || n <= 0 {
		return err
	}
	return w.skip(n) // decoded as a view
}

func (w *walker) tags() error {
	n, err := w.uvarint()
	if err != nil {
		return err
	}
	if n > maxTags {
		return fmt.Errorf("%d tagged fields", n)
	}
	if err := w.charge(n, tagCost); err != nil {
		return err
	}
	for range n {
		if _, err := w.uvarint(); err != nil {
			return err
		}
		size, err := w.uvarint()
		if err != nil {
			return err
		}
		if err := w.skip(size); err != nil {
			return err
		}
	}
	return nil
}
