// Package metrics counts what the broker does, cheaply enough for every request, and holds nothing that grows with input.
//
//	connection --> Requests.Done(key, version, times)   windows of durations --> quantiles at the scrape
//	produce, fetch --> Traffic                          counters, one per partition and one for all
//
// Invariants:
//
//   - Recording neither locks nor allocates, but for the first error of its kind.
//   - Counters never fall while the broker runs; those of a deleted topic go, those of all topics stay.
//   - Quantiles are over the last 30 to 60 seconds.
package metrics
