package window

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestATimeIsInEachWindowThatStartsNotLaterAndEndsLater(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 50).Draw(t, "size")
		advance := rapid.Int64Range(1, size).Draw(t, "advance")
		ts := rapid.Int64Range(0, 200).Draw(t, "time")
		d := Hopping(time.Duration(size)*time.Millisecond, time.Duration(advance)*time.Millisecond)
		require.NoError(t, d.Err())
		var got, want []int64
		for start := d.First(ts); start <= ts; start += advance {
			got = append(got, start)
		}
		for start := int64(0); start <= ts; start += advance {
			if ts < start+size {
				want = append(want, start)
			}
		}
		require.Equal(t, want, got)
	})
}

func TestTumblingWindowsFollowOneAnother(t *testing.T) {
	d := Tumbling(5 * time.Millisecond)
	for ts := range int64(100) {
		require.Equal(t, ts/5*5, d.First(ts))
	}
}

func TestDefinitionsThatAreWrong(t *testing.T) {
	for want, d := range map[string]interface{ Err() error }{
		"the size is 0s, it must be larger than 0":                                             Tumbling(0),
		"the size is -1s, it must be larger than 0":                                            Hopping(-time.Second, time.Second),
		"the advance is 0s, it must be larger than 0":                                          Hopping(time.Second, 0),
		"the advance 2s is larger than the size 1s: some records would be in no window":        Hopping(time.Second, 2*time.Second),
		"the grace is -1ms, it must not be negative":                                           Tumbling(time.Second).Grace(-time.Millisecond),
		"the size is 1.5ms, but windows are counted in whole milliseconds":                     Tumbling(1500 * time.Microsecond),
		"the time difference is -1s, it must not be negative":                                  Sliding(-time.Second),
		"the inactivity gap is -1s, it must not be negative":                                   Session(-time.Second),
		"the start 1969-12-31 23:59:59 +0000 UTC is before 1970":                               Unlimited().StartAt(time.Unix(-1, 0).UTC()),
		"the size is -1s, it must be larger than 0\nthe grace is -1s, it must not be negative": Tumbling(-time.Second).Grace(-time.Second),
	} {
		require.EqualError(t, d.Err(), want)
	}
	for _, d := range []interface{ Err() error }{
		Tumbling(time.Millisecond), Hopping(time.Second, time.Second), Hopping(3*time.Second, 2*time.Second).Grace(time.Hour),
		Sliding(0), Session(0), Unlimited(),
	} {
		require.NoError(t, d.Err())
	}
}
