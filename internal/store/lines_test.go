package store

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// What a search reads begins with a cache line, and is as few of them as its comments say.
func TestWhatASearchReadsIsWholeCacheLines(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("sizes of a machine with 64 bits")
	}
	require.EqualValues(t, 2*64, unsafe.Sizeof(entry{}))
	require.EqualValues(t, 2*64, unsafe.Sizeof(keyRows{}))
	require.EqualValues(t, 64, unsafe.Offsetof(keyRows{}.from))
	// table.ahead and touch read one field of each line.
	require.Less(t, unsafe.Offsetof(entry{}.gen), uintptr(64))
	require.GreaterOrEqual(t, unsafe.Offsetof(entry{}.inline), uintptr(64))
}
