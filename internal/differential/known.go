package differential

// knownDifference is a difference that stays, with its reason. docs/kafka.md lists the same.
type knownDifference struct {
	reason string
	is     func(d *Difference) bool
}

var knownDifferences = []knownDifference{}

// known gives the reason why two answers may differ, or "".
func known(d *Difference) string {
	for _, k := range knownDifferences {
		if k.is(d) {
			return k.reason
		}
	}
	return ""
}
