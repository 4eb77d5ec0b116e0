package conformance

// addJoin adds the joins.
func (p *program) addJoin(o op) error {
	switch o.Op {
	case "joinSS":
		return errNotBuilt
	case "joinST":
		return errNotBuilt
	case "joinSG":
		return errNotBuilt
	case "joinTT":
		return errNotBuilt
	case "joinFK":
		return errNotBuilt
	}
	return nil
}
