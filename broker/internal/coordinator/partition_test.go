package coordinator

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The expected values are those of Java's String.hashCode, and of Apache Kafka's choice among 50 partitions.
func TestPartitionForIsKafkas(t *testing.T) {
	for _, c := range []struct {
		key       string
		hash      int32
		partition int32
	}{
		{"", 0, 0},
		{"a", 97, 47},
		{"hello", 99162322, 22},
		{"h\u00e9llo", 103094734, 34},
		{"\U0001F600", 1772899, 49},
		{"hello world", 1794106052, 2},
		{"consumer-group", -1738392088, 38},      // not 10, as with the sign bit cleared
		{"polygenelubricants", math.MinInt32, 0}, // which has no absolute value
	} {
		require.Equal(t, c.hash, JavaHash(c.key), "%q", c.key)
		require.Equal(t, c.partition, PartitionFor(c.key, 50), "%q", c.key)
	}
	require.Zero(t, testing.AllocsPerRun(10, func() { _ = PartitionFor("wordcount-7f3a-worker-1-\U0001F600", 50) }))
}
