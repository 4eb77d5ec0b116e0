//go:build invariants || race

package invariants

const raceOrTag = true
