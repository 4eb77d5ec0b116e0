package differential

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Sequence is a conversation with a broker: data that can be stored and run again.
type Sequence struct {
	Seed  uint64
	Theme string
	Vars  []string // variables that requests refer to by their index
	Steps []Step
}

// Step is one request, or a restart of the broker.
type Step struct {
	Conn    int    // index of the connection
	Actor   string `json:",omitempty"` // whose variables the answer sets: "m0" sets m0.id, m0.gen ...
	Key     int16
	Version int16
	Request []byte  `json:",omitempty"` // the body as it goes over the wire, variables not yet replaced
	Batches []Batch `json:",omitempty"` // what "@0", "@1" in the place of records stand for
	Mangle  *Mangle `json:",omitempty"`
	Restart string  `json:",omitempty"` // "stop" or "kill": no request
}

// Mangle changes the bytes of a request after it was encoded.
type Mangle struct {
	Op string // "key", "version", "cut", "extend", "set", "client"
	At int    // position, from the start of the body; key or version
	By int64  // value
}

// request gives a new message of the step's type and version, with variables not yet replaced.
func (st *Step) request() kmsg.Request {
	req := kmsg.RequestForKey(st.Key)
	if req == nil {
		panic(fmt.Sprintf("no request has key %d", st.Key))
	}
	req.SetVersion(st.Version)
	if err := req.ReadFrom(st.Request); err != nil {
		panic(fmt.Sprintf("request of key %d, version %d: %v", st.Key, st.Version, err))
	}
	return req
}

// A variable in a field of a request is a value that no sequence uses otherwise. Number n with an addend d is
// base - (16n + d + 8); -8 <= d < 8.
const (
	base16  = -30_000
	base32  = -2_000_000_000
	base64_ = -9_000_000_000_000_000_000
)

// uuidMark begins a topic id that stands for the id of a topic.
var uuidMark = [4]byte{0xfe, 'v', 'a', 'r'}

// vars makes placeholders of variables.
type vars struct {
	names []string
	index map[string]int
}

func (v *vars) of(name string) int {
	if i, ok := v.index[name]; ok {
		return i
	}
	if v.index == nil {
		v.index = map[string]int{}
	}
	i := len(v.names)
	v.index[name] = i
	v.names = append(v.names, name)
	return i
}

func (v *vars) i64(name string, add int) int64 { return base64_ - int64(16*v.of(name)+add+8) }
func (v *vars) i32(name string, add int) int32 { return base32 - int32(16*v.of(name)+add+8) }
func (v *vars) i16(name string, add int) int16 { return base16 - int16(16*v.of(name)+add+8) }

func (v *vars) uuid(name string) (id [16]byte) {
	copy(id[:], uuidMark[:])
	id[15] = byte(v.of(name))
	return id
}

// prefix makes the prefix of a run from its number.
func prefix(n int64) string {
	const five = 36 * 36 * 36 * 36 * 36
	s := strconv.FormatInt(n%five, 36)
	return "d" + strings.Repeat("0", 5-len(s)) + s + "-"
}

// prefixBytes stands for the prefix of names within bytes that hold lengths; it has the length of a prefix.
var prefixBytes = []byte("~~~~~~~")

// values are the variables of one side.
type values struct {
	prefix  string // what "~" stands for
	strings map[string]string
	numbers map[string]int64
	uuids   map[string][16]byte
}

func newValues(prefix string) *values {
	return &values{prefix: prefix, strings: map[string]string{}, numbers: map[string]int64{}, uuids: map[string][16]byte{}}
}

var reference = regexp.MustCompile(`\$\{[^}]*\}`)

func (v *values) text(s string) string {
	s = strings.ReplaceAll(s, "~", v.prefix)
	if !strings.Contains(s, "${") {
		return s
	}
	return reference.ReplaceAllStringFunc(s, func(r string) string { return v.strings[r[2:len(r)-1]] })
}

// number replaces a placeholder. An unset variable is -1, what most protocols take for "none".
func (v *values) number(x, base int64, names []string) int64 {
	d := base - x
	if d < 0 || d >= int64(16*len(names)) {
		return x
	}
	n, ok := v.numbers[names[d/16]]
	if !ok {
		n = -1
	}
	return n + d%16 - 8
}

// resolve replaces the variables in a message.
func (v *values) resolve(x reflect.Value, names []string) {
	switch x.Kind() {
	case reflect.Pointer:
		if !x.IsNil() {
			if x.Type().Elem().Kind() == reflect.String { // don't write through a shared pointer
				s := reflect.New(x.Type().Elem())
				s.Elem().SetString(v.text(x.Elem().String()))
				x.Set(s)
				return
			}
			v.resolve(x.Elem(), names)
		}
	case reflect.Struct:
		for i := range x.NumField() {
			if f := x.Field(i); f.CanSet() {
				v.resolve(f, names)
			}
		}
	case reflect.Slice:
		if x.Type().Elem().Kind() == reflect.Uint8 {
			if bytes.Contains(x.Bytes(), prefixBytes) {
				x.SetBytes(bytes.ReplaceAll(x.Bytes(), prefixBytes, []byte(v.prefix)))
			}
			return
		}
		for i := range x.Len() {
			v.resolve(x.Index(i), names)
		}
	case reflect.Array:
		id, ok := x.Interface().([16]byte)
		if !ok || [4]byte(id[:4]) != uuidMark {
			return
		}
		real := [16]byte{0: 0x55, 15: id[15]} // of a topic that does not exist
		if int(id[15]) < len(names) {
			if known, ok := v.uuids[names[id[15]]]; ok {
				real = known
			}
		}
		x.Set(reflect.ValueOf(real))
	case reflect.String:
		x.SetString(v.text(x.String()))
	case reflect.Int16:
		x.SetInt(v.number(x.Int(), base16, names))
	case reflect.Int32:
		x.SetInt(v.number(x.Int(), base32, names))
	case reflect.Int64:
		x.SetInt(v.number(x.Int(), base64_, names))
	}
}

// show renders a value of a request for people: variables by name, nothing that has its default.
func show(x reflect.Value, names []string) string {
	switch x.Kind() {
	case reflect.Pointer:
		if x.IsNil() {
			return "nil"
		}
		return show(x.Elem(), names)
	case reflect.Struct:
		var parts []string
		t := x.Type()
		usual := reflect.New(t)
		if d, ok := usual.Interface().(interface{ Default() }); ok {
			d.Default()
		}
		for i := range x.NumField() {
			f := x.Field(i)
			if !t.Field(i).IsExported() || t.Field(i).Name == "Version" || t.Field(i).Name == "UnknownTags" ||
				reflect.DeepEqual(f.Interface(), usual.Elem().Field(i).Interface()) {
				continue
			}
			parts = append(parts, t.Field(i).Name+": "+show(f, names))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case reflect.Slice:
		if x.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("%q", x.Bytes())
		}
		parts := make([]string, x.Len())
		for i := range parts {
			parts[i] = show(x.Index(i), names)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Array:
		if id, ok := x.Interface().([16]byte); ok {
			if [4]byte(id[:4]) == uuidMark && int(id[15]) < len(names) {
				return "${" + names[id[15]] + "}"
			}
			return uuidText(id)
		}
	case reflect.String:
		if s := x.String(); len(s) > 300 {
			return fmt.Sprintf("%q...(%d)", s[:20], len(s))
		}
		return fmt.Sprintf("%q", x.String())
	case reflect.Int16:
		return showNumber(x.Int(), base16, names)
	case reflect.Int32:
		return showNumber(x.Int(), base32, names)
	case reflect.Int64:
		return showNumber(x.Int(), base64_, names)
	}
	return fmt.Sprint(x.Interface())
}

func showNumber(x, base int64, names []string) string {
	d := base - x
	if d < 0 || d >= int64(16*len(names)) {
		return fmt.Sprint(x)
	}
	if add := d%16 - 8; add != 0 {
		return fmt.Sprintf("${%s}%+d", names[d/16], add)
	}
	return "${" + names[d/16] + "}"
}

// String shows a step in one line.
func (st *Step) show(names []string) string {
	if st.Restart != "" {
		return "restart of the broker: " + st.Restart
	}
	s := fmt.Sprintf("c%d %s v%d %s", st.Conn, kmsg.NameForKey(st.Key), st.Version, show(reflect.ValueOf(st.request()), names))
	for i, b := range st.Batches {
		s += fmt.Sprintf(" @%d=%s", i, show(reflect.ValueOf(b), names))
	}
	if st.Mangle != nil {
		s += fmt.Sprintf(" mangled %+v", *st.Mangle)
	}
	return s
}

// uuidText is the text that Kafka has for an id.
func uuidText(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }
