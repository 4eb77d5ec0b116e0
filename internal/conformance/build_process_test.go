package conformance

// addProcess adds processors with a store of their own.
func (p *program) addProcess(o op) error {
	switch o.Op {
	case "process":
		return errNotBuilt
	case "processValues":
		return errNotBuilt
	}
	return nil
}
