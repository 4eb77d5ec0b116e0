package server

import "github.com/twmb/franz-go/pkg/kerr"

// checkDeadline refuses an operation on the metadata that is given no time. Kafka's controller does not begin with an operation whose
// time is over, and without time it is over at once; how long one takes is no matter here.
func checkDeadline(timeoutMillis int32) error {
	if timeoutMillis <= 0 {
		return refusal(kerr.RequestTimedOut, "The request timed out.")
	}
	return nil
}
