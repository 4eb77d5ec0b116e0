package conformance

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-stream/moldau/stream"
)

// text is a key or a value: a string or null.
type text = stream.Opt[string]

// predicate returns a predicate of the scenarios; null counts as the empty string.
func predicate(name string) func(k, v text) bool {
	return func(k, v text) bool {
		s := v.Or("")
		switch name {
		case "true":
			return true
		case "has-a":
			return strings.Contains(s, "a")
		case "len-even":
			return s != "" && letters(s)%2 == 0
		case "key-lt-c":
			return k.Or("") < "c"
		case "nonempty":
			return s != ""
		}
		panic("predicate " + name)
	}
}

func letters(s string) int { return len([]rune(s)) }

// mapper returns a function of values; null stays null.
func mapper(name string) func(v text) text {
	return func(v text) text {
		s, ok := v.Get()
		if !ok {
			return v
		}
		switch name {
		case "upper":
			return stream.Some(strings.ToUpper(s))
		case "suffix":
			return stream.Some(s + "!")
		case "reverse":
			r := []rune(s)
			slices.Reverse(r)
			return stream.Some(string(r))
		case "len":
			return stream.Some(strconv.Itoa(letters(s)))
		case "null-if-b":
			if strings.Contains(s, "b") {
				return text{}
			}
			return v
		}
		panic("mapper " + name)
	}
}

// keyMapper returns a function that makes a key.
func keyMapper(name string) func(k, v text) text {
	return func(k, v text) text {
		switch name {
		case "value":
			return stream.Some(v.Or("_"))
		case "first":
			s := v.Or("")
			if s == "" {
				return stream.Some("_")
			}
			return stream.Some(string([]rune(s)[:1]))
		case "const":
			return stream.Some("K")
		case "key-upper":
			if s, ok := k.Get(); ok {
				return stream.Some(strings.ToUpper(s))
			}
			return stream.Some("_")
		}
		panic("key function " + name)
	}
}

// flat returns a function that makes any number of values; null makes none.
func flat(name string) func(v text) iter.Seq[text] {
	return func(v text) iter.Seq[text] {
		return func(yield func(text) bool) {
			var parts []string
			switch name {
			case "words":
				parts = strings.Split(v.Or(""), " ")
			case "chars":
				parts = strings.Split(v.Or(""), "")
				parts = parts[:min(3, len(parts))]
			default:
				panic("flat function " + name)
			}
			for _, p := range parts {
				if p != "" && !yield(stream.Some(p)) {
					return
				}
			}
		}
	}
}

// capped is the last 40 characters.
func capped(s string) string {
	r := []rune(s)
	return string(r[max(0, len(r)-40):])
}

func appendCapped(a, v text) text { return stream.Some(capped(a.Or("") + v.Or(""))) }
