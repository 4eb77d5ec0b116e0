package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResultsAreVerified(t *testing.T) {
	var out, errs bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-events", "20000", "-seed", "7"}, &out, &errs), "%s%s", &out, &errs)
	require.Contains(t, out.String(), "verified: ")
}
