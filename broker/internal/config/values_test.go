package config

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMillisDoNotOverflow(t *testing.T) {
	require.Equal(t, 1500*time.Millisecond, Millis(1500))
	require.Equal(t, -time.Millisecond, Millis(-1))
	require.Equal(t, forever, Millis(math.MaxInt64))
	require.Equal(t, -forever, Millis(math.MinInt64))
}
