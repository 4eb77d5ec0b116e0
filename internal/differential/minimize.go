package differential

import "slices"

// minimize drops steps as long as fails says that what is left still shows the difference. tries bounds the work.
func minimize(seq *Sequence, tries int, fails func(*Sequence) bool) *Sequence {
	for size := max(1, len(seq.Steps)/2); size >= 1; size /= 2 {
		for at := len(seq.Steps); at > 0; {
			from := max(0, at-size)
			if tries == 0 {
				return seq
			}
			tries--
			less := *seq
			less.Steps = slices.Concat(seq.Steps[:from], seq.Steps[at:])
			if len(less.Steps) > 0 && fails(&less) {
				seq = &less
			}
			at = min(from, len(seq.Steps))
		}
	}
	return seq
}
