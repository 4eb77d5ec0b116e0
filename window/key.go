package window

import "time"

// Key is a key in a window: the key of tables that windowed aggregations make.
type Key[K any] struct {
	Key K
	// Start is in the window. End is not in it, but in windows that slide.
	Start, End time.Time
}

// Unwrap gives the key without its window, for stream.MapKeys.
func Unwrap[K any](k Key[K]) K { return k.Key }

// SessionKey is a key in a session: the key of tables that aggregations of sessions make.
type SessionKey[K any] struct {
	Key K
	// Start and End are the times of the first and the last record of the session.
	Start, End time.Time
}

// UnwrapSession gives the key without its session, for stream.MapKeys.
func UnwrapSession[K any](k SessionKey[K]) K { return k.Key }
