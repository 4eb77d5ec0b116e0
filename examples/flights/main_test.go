package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheMonthIsVerified(t *testing.T) {
	var out, errs bytes.Buffer
	require.NoError(t, run(t.Context(), nil, &out, &errs), "%s%s", &out, &errs)
	require.Equal(t, 5, bytes.Count(out.Bytes(), []byte("verified: ")), out.String())
	require.Contains(t, out.String(), "27004 flights in the data")
	require.Contains(t, out.String(), "not placed:   521 cancelled: no departure time")
}

func TestClockTimes(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	require.NoError(t, err)
	at := func(s string) time.Time {
		parsed, err := time.Parse(time.RFC3339, s)
		require.NoError(t, err)
		return parsed.UTC()
	}
	evening := at("2013-01-31T23:00:00-05:00")
	require.Equal(t, at("2013-01-31T23:50:00-05:00"), nextClock(evening, 2350, newYork))
	require.Equal(t, at("2013-02-01T00:10:00-05:00"), nextClock(evening, 10, newYork), "after midnight, in another month")
	require.Equal(t, at("2013-02-01T00:00:00-05:00"), nextClock(evening, 2400, newYork), "both 0 and 2400 are midnight")
	chicago, err := time.LoadLocation("America/Chicago")
	require.NoError(t, err)
	require.Equal(t, at("2013-01-31T22:30:00-06:00"), nextClock(evening, 2230, chicago), "an hour earlier by the clock, and later")
}
