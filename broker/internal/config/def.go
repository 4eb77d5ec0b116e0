package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Kind is the type of a configuration, with the protocol's numbers.
type Kind int8

// The kinds, as in DescribeConfigs.
const (
	Bool     Kind = 1
	String   Kind = 2
	Int      Kind = 3
	Short    Kind = 4
	Long     Kind = 5
	Double   Kind = 6
	List     Kind = 7
	Class    Kind = 8
	Password Kind = 9
)

// String is Kafka's name of the kind.
func (k Kind) String() string {
	return [...]string{"UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"}[k]
}

// flags of a definition.
type flags uint8

const (
	// PerBroker: may be changed for one broker while it runs.
	PerBroker flags = 1 << iota
	// Cluster: may be changed for one or all brokers while they run.
	Cluster
	// Internal: not shown.
	Internal
	// Null: the default is null, or there is none. Def.Default is empty then.
	Null
)

// Def is the definition of one configuration.
type Def struct {
	Name    string
	Kind    Kind
	Default string
	check   check
	Flags   flags
	Doc     string
}

// Sensitive tells whether the value is shown to nobody.
func (d *Def) Sensitive() bool { return d.Kind == Password }

// Dynamic tells whether the configuration of a broker may change while it runs.
func (d *Def) Dynamic() bool { return d.Flags&(PerBroker|Cluster) != 0 }

// HasDefault tells whether there is a default that is not null.
func (d *Def) HasDefault() bool { return d.Flags&Null == 0 }

// Error is a value that a configuration cannot have, in Kafka's words.
type Error struct {
	Message string
	// BadRequest: Kafka answers INVALID_REQUEST, not INVALID_CONFIG.
	BadRequest bool
}

func (e *Error) Error() string { return e.Message }

func refuse(format string, args ...any) error { return &Error{Message: fmt.Sprintf(format, args...)} }

func invalid(name string, value any, why string) error {
	return refuse("Invalid value %s for configuration %s: %s", text(value), name, why)
}

// text prints a parsed value as Java does.
func text(v any) string {
	switch v := v.(type) {
	case float64:
		return javaDouble(v)
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// Parse checks a value: a bool, a string, an int64, a float64 or a []string comes back.
func (d *Def) Parse(value string) (any, error) {
	v, err := d.parse(value)
	if err != nil {
		return nil, err
	}
	if d.check != nil {
		if err := d.check(d.Name, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// parseOnce is Parse, but a list may have an element more than once, as those of topics may.
func (d *Def) parseOnce(value string) (any, error) {
	if d.Kind == List {
		var unique []string
		for _, v := range splitList(value) {
			if !slices.Contains(unique, v) {
				unique = append(unique, v)
			}
		}
		value = strings.Join(unique, ",")
	}
	return d.Parse(value)
}

func (d *Def) parse(value string) (any, error) {
	trimmed := strings.TrimSpace(value)
	bits := 64
	switch d.Kind {
	case Bool:
		switch {
		case strings.EqualFold(trimmed, "true"):
			return true, nil
		case strings.EqualFold(trimmed, "false"):
			return false, nil
		}
		return nil, invalid(d.Name, value, "Expected value to be either true or false")
	case String, Class:
		return trimmed, nil
	case Password:
		return value, nil
	case List:
		return splitList(trimmed), nil
	case Double:
		f, err := strconv.ParseFloat(trimmed, 64)
		if err != nil && !math.IsInf(f, 0) {
			return nil, invalid(d.Name, value, "Not a number of type DOUBLE")
		}
		return f, nil
	case Short:
		bits = 16
	case Int:
		bits = 32
	}
	n, err := strconv.ParseInt(trimmed, 10, bits)
	if err != nil {
		return nil, invalid(d.Name, value, "Not a number of type "+d.Kind.String())
	}
	return n, nil
}

// Format prints a parsed value as DescribeConfigs shows it.
func Format(v any) string {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ",")
	case float64:
		return javaDouble(v)
	}
	return fmt.Sprint(v)
}

// Canonical is a valid value as DescribeConfigs shows it; a value that is not valid stays what it is.
func (d *Def) Canonical(value string) string {
	v, err := d.parse(value)
	if err != nil {
		return value
	}
	return Format(v)
}

// javaDouble prints a number like Double.toString: at least one digit after the point, an exponent from 10^7 and below 10^-3.
func javaDouble(f float64) string {
	switch a := math.Abs(f); {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strconv.FormatFloat(f, 'g', -1, 64), "+") + "inity"
	case a != 0 && (a >= 1e7 || a < 1e-3):
		s := strconv.FormatFloat(f, 'E', -1, 64)
		mantissa, exponent, _ := strings.Cut(s, "E")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		n, _ := strconv.Atoi(exponent) // just formatted
		return mantissa + "E" + strconv.Itoa(n)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// splitList gives the elements of a list; Kafka keeps empty ones between commas.
func splitList(value string) []string {
	if value == "" {
		return []string{}
	}
	all := strings.Split(value, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// check refuses a parsed value.
type check func(name string, v any) error

func atLeast[N int | float64](lowest N) check {
	return func(name string, v any) error {
		if number(v) < float64(lowest) {
			return invalid(name, v, fmt.Sprintf("Value must be at least %v", lowest))
		}
		return nil
	}
}

func between[N int | float64](lowest, highest N) check {
	low := atLeast(lowest)
	return func(name string, v any) error {
		if number(v) > float64(highest) {
			return invalid(name, v, fmt.Sprintf("Value must be no more than %v", highest))
		}
		return low(name, v)
	}
}

func number(v any) float64 {
	if n, ok := v.(int64); ok {
		return float64(n)
	}
	return v.(float64)
}

func gzipLevel(name string, v any) error {
	if n := v.(int64); n != -1 && (n < 1 || n > 9) {
		return invalid(name, v, "Value must be between 1 and 9 or equal to -1")
	}
	return nil
}

func oneOf(allowed ...string) check {
	return func(name string, v any) error {
		if !slices.Contains(allowed, v.(string)) {
			return invalid(name, v, "String must be one of: "+strings.Join(allowed, ", "))
		}
		return nil
	}
}

func oneOfFold(allowed ...string) check {
	return func(name string, v any) error {
		if !slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, v.(string)) }) {
			return invalid(name, v, "String must be one of (case insensitive): "+strings.Join(allowed, ", "))
		}
		return nil
	}
}

func notEmpty(name string, v any) error {
	if v.(string) == "" {
		return invalid(name, v, "String must be non-empty")
	}
	return nil
}

// listOf checks a list without duplicates and empty elements; no allowed ones: any.
func listOf(emptyAllowed bool, allowed ...string) check {
	return func(name string, v any) error {
		list := v.([]string)
		if len(list) == 0 && !emptyAllowed {
			valid := "any non-empty value"
			if len(allowed) > 0 {
				valid = text(allowed)
			}
			return refuse("Configuration '%s' must not be empty. Valid values include: %s", name, valid)
		}
		for i, e := range list {
			if slices.Contains(list[:i], e) {
				return refuse("Configuration '%s' values must not be duplicated.", name)
			}
		}
		for _, e := range list {
			switch {
			case len(allowed) > 0 && !slices.Contains(allowed, e):
				return invalid(name, e, "String must be one of: "+strings.Join(allowed, ", "))
			case e == "":
				return refuse("Configuration '%s' values must not be empty.", name)
			}
		}
		return nil
	}
}

func throttledReplicas(name string, v any) error {
	list := v.([]string)
	if len(list) == 1 && list[0] == "*" {
		return nil
	}
	for _, e := range list {
		if !replicaPattern(e) {
			return invalid(name, v, name+" must be the literal '*' or a list of replicas in the following format: "+
				"[partitionId]:[brokerId],[partitionId]:[brokerId],...")
		}
	}
	return nil
}

// replicaPattern tells whether a string is PARTITION:BROKER.
func replicaPattern(s string) bool {
	partition, broker, ok := strings.Cut(s, ":")
	digits := func(s string) bool {
		return s != "" && strings.Trim(s, "0123456789") == ""
	}
	return ok && digits(partition) && digits(broker)
}

func shareOffsetReset(name string, v any) error {
	s := v.(string)
	if s == "earliest" || s == "latest" {
		return nil
	}
	if d, ok := strings.CutPrefix(s, "by_duration:"); ok {
		if _, err := ParseDuration(d); err == nil {
			return nil
		}
	}
	return invalid(name, v, fmt.Sprintf("Invalid value `%s` for configuration %s. The value must be either 'earliest', 'latest' or of "+
		"the format 'by_duration:<PnDTnHnMn.nS>'.", s, name))
}

func quorumVoters(name string, v any) error {
	for _, e := range v.([]string) {
		id, address, ok := strings.Cut(e, "@")
		if _, err := strconv.Atoi(id); !ok || err != nil || !hostPort(address) {
			return refuse("Invalid configuration value for %s. Each entry should be in the form `{id}@{host}:{port}`.", name)
		}
	}
	return nil
}

func quorumServers(name string, v any) error {
	for _, e := range v.([]string) {
		if !hostPort(e) {
			return refuse("Failed to parse host name from %s for the configuration %s. Each entry should be in the form \"{host}:{port}\"", e, name)
		}
	}
	return nil
}

func hostPort(s string) bool {
	at := strings.LastIndexByte(s, ':')
	if at <= 0 {
		return false
	}
	_, err := strconv.ParseUint(s[at+1:], 10, 16)
	return err == nil
}
