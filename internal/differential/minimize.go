package differential

import (
	"reflect"
	"slices"
)

// minimize drops steps, and then elements of lists within requests, as long as fails says that what is left still shows the
// difference. tries bounds the work.
func minimize(seq *Sequence, tries int, fails func(*Sequence) bool) {
	for size := max(1, len(seq.Steps)/2); size >= 1; size /= 2 {
		for at := len(seq.Steps); at > 0; {
			from := max(0, at-size)
			if tries--; tries < 0 {
				return
			}
			less := *seq
			less.Steps = slices.Concat(seq.Steps[:from], seq.Steps[at:])
			if len(less.Steps) > 0 && fails(&less) {
				seq = &less
			}
			at = min(from, len(seq.Steps))
		}
	}
	for i := range seq.Steps {
		for n := 0; ; {
			req := seq.Steps[i].request()
			at := n
			if !without(reflect.ValueOf(req).Elem(), &at) {
				break
			}
			if tries--; tries < 0 {
				return
			}
			less := *seq
			less.Steps = slices.Clone(seq.Steps)
			less.Steps[i].Request = req.AppendTo(nil)
			if fails(&less) {
				seq = &less
			} else {
				n++
			}
		}
	}
}

// without removes element n of all the lists in a message, counted from the outside to the inside.
func without(x reflect.Value, n *int) bool {
	switch x.Kind() {
	case reflect.Struct:
		for i := range x.NumField() {
			if x.Type().Field(i).IsExported() && without(x.Field(i), n) {
				return true
			}
		}
	case reflect.Slice:
		if x.Type().Elem().Kind() == reflect.Uint8 {
			return false
		}
		if *n < x.Len() {
			x.Set(reflect.AppendSlice(x.Slice3(0, *n, *n), x.Slice(*n+1, x.Len())))
			return true
		}
		*n -= x.Len()
		for i := range x.Len() {
			if without(x.Index(i), n) {
				return true
			}
		}
	}
	return false
}
