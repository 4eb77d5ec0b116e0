package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var errDuration = errors.New("not an ISO 8601 duration such as PT1H or P2DT30M")

// ParseDuration reads a duration that is not negative in the form of java.time.Duration: P, days D, then T with hours H,
// minutes M and seconds S; seconds may have a fraction. Each part may have a sign.
func ParseDuration(s string) (time.Duration, error) {
	s = strings.ToUpper(s)
	negative := strings.HasPrefix(s, "-")
	s = strings.TrimLeft(s, "+-")
	s, ok := strings.CutPrefix(s, "P")
	if !ok {
		return 0, errDuration
	}
	days, clock, timed := strings.Cut(s, "T")
	if timed && clock == "" || !timed && days == "" {
		return 0, errDuration
	}
	var total time.Duration
	part := func(rest *string, unit string, length time.Duration) bool {
		number, after, ok := strings.Cut(*rest, unit)
		if !ok {
			return true
		}
		*rest = after
		number = strings.Replace(number, ",", ".", 1)
		if strings.Contains(number, ".") && unit != "S" {
			return false
		}
		whole, fraction, _ := strings.Cut(number, ".")
		n, err := strconv.ParseInt(whole, 10, 64)
		if err != nil || len(fraction) > 9 || strings.Trim(fraction, "0123456789") != "" {
			return false
		}
		d := time.Duration(n) * length
		if n != 0 && d/length != time.Duration(n) {
			return false
		}
		if fraction != "" {
			nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64) // digits only
			if strings.HasPrefix(whole, "-") {
				nanos = -nanos
			}
			d += time.Duration(nanos)
		}
		total += d
		return true
	}
	ok = part(&days, "D", 24*time.Hour) && days == "" &&
		part(&clock, "H", time.Hour) && part(&clock, "M", time.Minute) && part(&clock, "S", time.Second) && clock == ""
	if negative {
		total = -total
	}
	if !ok || total < 0 {
		return 0, errDuration
	}
	return total, nil
}
