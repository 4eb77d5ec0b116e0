package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// change is a passage of franz-go's tests that takes something for a failure that a coordinator's death does to clients of Apache Kafka
// as well, and what stands in its place.
type change struct{ file, why, from, to string }

var changes = []change{
	{
		file: "txn_test.go",
		why: "the generation of a classic group between the answers of JoinGroup and SyncGroup is in the coordinator's memory only: " +
			"members that ask the next process for it are told that there is none, and join again; as they do when the connection ends",
		from: "if fetchErrs := fetches.Errors(); len(fetchErrs) > 0 {",
		to:   "if fetchErrs := notRejoining(fetches.Errors()); len(fetchErrs) > 0 {",
	},
	{
		file: "group_test.go",
		why:  "as before",
		from: "if fetchErrs := fetches.Errors(); len(fetchErrs) > 0 {",
		to:   "if fetchErrs := notRejoining(fetches.Errors()); len(fetchErrs) > 0 {",
	},
	{
		file: "group_test.go",
		why:  "a member that has to join again has lost its partitions before it could commit: at least once, without transactions",
		from: `c.sendErr(fmt.Errorf("saw double offset t %s p%do%d", r.Topic, r.Partition, r.Offset))
					c.mu.Unlock()
					return`,
		to: `c.mu.Unlock()
					continue`,
	},
	{
		file: "helpers_test.go",
		from: "var errSkipChecks848 =",
		to: `// notRejoining leaves out that a member has to join again.
func notRejoining(errs []FetchError) (left []FetchError) {
	for _, e := range errs {
		var session *ErrGroupSession
		if errors.As(e.Err, &session) &&
			(errors.Is(session.Err, kerr.IllegalGeneration) || errors.Is(session.Err, kerr.UnknownMemberID) || isRetryableBrokerErr(session.Err)) {
			fmt.Printf("    allowed: %v\n", e.Err)
			continue
		}
		left = append(left, e)
	}
	return left
}

var errSkipChecks848 =`,
	},
}

// apply makes the changes in a copy of the tests.
func apply(sources string) error {
	for _, c := range changes {
		name := filepath.Join(sources, c.file)
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n := strings.Count(string(text), c.from); n != 1 {
			return fmt.Errorf("%s has %d times what etl changes in it: look at what this version of franz-go tests\n%s", name, n, c.from)
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(text), c.from, c.to, 1)), 0o644); err != nil {
			return err
		}
	}
	return nil
}
