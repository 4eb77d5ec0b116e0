package murmur

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The hashes are those that the Java client's own test expects.
func TestSum2EqualsJava(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		require.Equal(t, want, int32(Sum2([]byte(key))), key)
	}
}

func TestPartitionIsNeverNegative(t *testing.T) {
	for _, key := range []string{"", "21", "foobar", "abc"} {
		p := Partition([]byte(key), 7)
		require.GreaterOrEqual(t, p, int32(0))
		require.Less(t, p, int32(7))
	}
}
