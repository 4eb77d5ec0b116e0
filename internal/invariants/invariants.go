// Package invariants tells whether the checks of internal invariants are on.
//
// A check that costs more than a comparison stands behind Enabled:
//
//	if invariants.Enabled { l.checkOffsetsAscend() }
//
// The checks are on in race-detector builds and with the build tag "invariants";
// in every other build the compiler removes them.
package invariants

// Enabled is true in builds with the race detector or the tag "invariants".
const Enabled = raceOrTag
