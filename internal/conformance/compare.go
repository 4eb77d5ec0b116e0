package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// differences are what was not as expected.
type differences []string

func (d *differences) differ(what string, want, got any) {
	*d = append(*d, fmt.Sprintf("%s: expected %v, got %v", what, want, got))
}

// lines compares texts line by line and shows the first difference.
func lines(r *differences, what, want, got string) {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		a, b := "its end", "its end"
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			r.differ(fmt.Sprintf("%s, line %d", what, i+1), fmt.Sprintf("%q", a), fmt.Sprintf("%q", b))
			return
		}
	}
}

// lists compares in order.
func lists[T any](r *differences, what string, want, got []T) {
	if w, g := show(want), show(got); w != g {
		r.differ(what, w, g)
	}
}

// sets compares without order.
func sets[T any](r *differences, what string, want, got []T) {
	missing, more := texted(want), texted(got)
	for i := 0; i < len(missing); {
		if j := slices.Index(more, missing[i]); j >= 0 {
			missing, more = slices.Delete(missing, i, i+1), slices.Delete(more, j, j+1)
			continue
		}
		i++
	}
	slices.Sort(missing)
	slices.Sort(more)
	for i := range max(len(missing), len(more)) {
		w, g := "nothing", "nothing"
		if i < len(missing) {
			w = missing[i]
		}
		if i < len(more) {
			g = more[i]
		}
		r.differ(what, w, g)
	}
}

func texted[T any](all []T) []string {
	s := make([]string, len(all))
	for i := range all {
		s[i] = fmt.Sprint(all[i])
	}
	return s
}

func show[T any](all []T) string {
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(texted(all), " | ")
}
