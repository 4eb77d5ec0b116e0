package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/moldau-stream/moldau/broker"
)

// A setting of the server comes from the first of these that has it: the command line, the environment, the file that --config
// names. In all of them settings have Kafka's names, and those of flags where Kafka has none.

// origin orders where a setting may come from; the highest counts.
type origin int

const (
	fromFile origin = iota + 1
	fromEnv
	fromFlag
)

// setting is one value, and where it came from in words.
type setting struct {
	value  string
	origin origin
	where  string
}

// settings are by Kafka's name.
type settings map[string]setting

// add keeps what counts most.
func (s settings) add(name string, v setting) {
	if old, ok := s[name]; !ok || v.origin > old.origin {
		s[name] = v
	}
}

// ownPrefix begins the names of flags in a file.
const ownPrefix = "moldau."

// flagProperties are the flags that say the same as properties.
var flagProperties = map[string][]string{
	"listen":             {"listeners", "advertised.listeners", "listener.security.protocol.map"},
	"advertise":          {"advertised.listeners"},
	"data":               {"log.dirs", "log.dir"},
	"default-partitions": {"num.partitions"},
	"no-auto-create":     {"auto.create.topics.enable"},
	"node-id":            {"node.id", "broker.id"},
}

// nodeZero says --node-id 0 as a property.
func nodeZero(properties map[string]string) error {
	for _, name := range flagProperties["node-id"] {
		if v, ok := properties[name]; ok && strings.TrimSpace(v) != "0" {
			return usagef("--node-id is 0 and the property %s is %s: set one of them", name, v)
		}
	}
	properties["node.id"] = "0"
	return nil
}

// properties collects Kafka's configurations from all sources. Flags that count less than a property are set back to "not given".
func (p process) properties(flags *pflag.FlagSet, path string, given []string) (map[string]string, error) {
	all := settings{}
	for _, g := range given {
		name, value, ok := strings.Cut(g, "=")
		if !ok {
			return nil, usagef("--property %q is not NAME=VALUE", g)
		}
		all.add(strings.TrimSpace(name), setting{value, fromFlag, "--property"})
	}
	if err := p.environment(flags, all); err != nil {
		return nil, err
	}
	if path != "" {
		if err := readSettings(path, flags, all); err != nil {
			return nil, err
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := broker.CheckProperty(name, all[name].value); err != nil {
			errs = append(errs, usagef("%s: %w", all[name].where, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for flag, names := range flagProperties {
		f := flags.Lookup(flag)
		if f == nil || !f.Changed {
			continue
		}
		level := fromFlag
		if f.Annotations[envAnnotation] != nil {
			level = fromEnv
		}
		for _, name := range names {
			switch s, ok := all[name]; {
			case !ok:
			case s.origin < level:
				delete(all, name)
			case s.origin > level:
				f.Changed = false
			}
		}
	}
	out := make(map[string]string, len(all))
	for name, s := range all {
		out[name] = s.value
	}
	return out, nil
}

// environment reads MOLDAU_LOG_RETENTION_MS and the like. Variables that are flags of a command are theirs.
func (p process) environment(flags *pflag.FlagSet, all settings) error {
	if p.environ == nil {
		return nil
	}
	names := map[string]string{}
	for name := range broker.PropertyNames() {
		names[propertyEnv(name)] = name
	}
	own := map[string]bool{}
	for _, c := range append(p.root().Commands(), p.root()) {
		c.Flags().VisitAll(func(f *pflag.Flag) { own[envName(f.Name)] = true })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { own[envName(f.Name)] = true })
		for _, sub := range c.Commands() {
			sub.Flags().VisitAll(func(f *pflag.Flag) { own[envName(f.Name)] = true })
		}
	}
	var errs []error
	for _, pair := range p.environ() {
		variable, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(variable, envPrefix) || value == "" || flags.Lookup(flagOfEnv(variable)) != nil {
			continue
		}
		if name, ok := names[variable]; ok {
			all.add(name, setting{value, fromEnv, "environment variable " + variable})
			continue
		}
		if name, ok := listenerProperty(variable, names); ok {
			all.add(name, setting{value, fromEnv, "environment variable " + variable})
			continue
		}
		if own[variable] {
			continue
		}
		name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, envPrefix), "_", "."))
		errs = append(errs, usagef("environment variable %s: %w", variable, broker.CheckProperty(name, value)))
	}
	return errors.Join(errs...)
}

func propertyEnv(name string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name))
}

func flagOfEnv(variable string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, envPrefix), "_", "-"))
}

// listenerProperty finds listener.name.NAME.CONFIG in MOLDAU_LISTENER_NAME_NAME_CONFIG; the longest CONFIG counts.
func listenerProperty(variable string, names map[string]string) (string, bool) {
	rest, ok := strings.CutPrefix(variable, envPrefix+"LISTENER_NAME_")
	if !ok {
		return "", false
	}
	for i := range rest {
		if i == 0 || rest[i] != '_' {
			continue
		}
		if name, ok := names[envPrefix+rest[i+1:]]; ok {
			return "listener.name." + strings.ToLower(rest[:i]) + "." + name, true
		}
	}
	return "", false
}

// maxConfigFile bounds a configuration file.
const maxConfigFile = 1 << 20

// readSettings reads a YAML file, or one in the form of Kafka's server.properties if its name ends in .properties.
func readSettings(path string, flags *pflag.FlagSet, all settings) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	if info.Size() > maxConfigFile {
		return fmt.Errorf("--config: %s has %d bytes; at most %d are read", path, info.Size(), maxConfigFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	read := map[string]setting{}
	if filepath.Ext(path) == ".properties" {
		err = parseProperties(path, string(data), read)
	} else {
		err = parseYAML(path, data, read)
	}
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(read)) {
		s := read[name]
		flag, ok := strings.CutPrefix(name, ownPrefix)
		if !ok {
			all.add(name, s)
			continue
		}
		f := flags.Lookup(flag)
		if f == nil || flag == "help" || flag == "config" || flag == "property" {
			return usagef("%s: %s: there is no such flag of moldau server", s.where, name)
		}
		if f.Changed {
			continue // the command line or the environment has it
		}
		if err := flags.Set(flag, s.value); err != nil {
			return usagef("%s: %s: %q is not a valid value for it (%s)", s.where, name, s.value, f.Usage)
		}
	}
	return nil
}

// parseYAML reads nested maps, whose keys are joined by dots, and lists, whose elements are joined by commas.
func parseYAML(path string, data []byte, read map[string]setting) error {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return usagef("%s: %w", path, err)
	}
	if len(root.Content) == 0 {
		return nil // empty
	}
	return yamlMap(path, "", root.Content[0], read)
}

func yamlMap(path, prefix string, n *yaml.Node, read map[string]setting) error {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	where := fmt.Sprintf("%s line %d", path, n.Line)
	if n.Kind != yaml.MappingNode {
		return usagef("%s: a map from names to values was expected", where)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		where := fmt.Sprintf("%s line %d", path, key.Line)
		if key.Kind != yaml.ScalarNode || key.Value == "" {
			return usagef("%s: a name was expected", where)
		}
		name := prefix + key.Value
		if strings.Count(name, ".") > 32 {
			return usagef("%s: the maps are nested too deep", where)
		}
		switch value.Kind {
		case yaml.MappingNode:
			if err := yamlMap(path, name+".", value, read); err != nil {
				return err
			}
			continue
		case yaml.SequenceNode:
			var list []string
			for _, e := range value.Content {
				if e.Kind != yaml.ScalarNode {
					return usagef("%s: %s: the elements of a list must be plain values", where, name)
				}
				list = append(list, e.Value)
			}
			value = &yaml.Node{Kind: yaml.ScalarNode, Value: strings.Join(list, ",")}
		case yaml.ScalarNode:
			if value.Tag == "!!null" {
				return usagef("%s: %s has no value", where, name)
			}
		default:
			return usagef("%s: %s: a plain value was expected", where, name)
		}
		if old, ok := read[name]; ok {
			return usagef("%s: %s is set before, at %s", where, name, old.where)
		}
		read[name] = setting{value.Value, fromFile, where}
	}
	return nil
}

// parseProperties reads Java's properties: NAME=VALUE, NAME: VALUE or NAME VALUE, comments with # and !, a backslash at the end of a
// line that goes on, and escapes. As in Java, the last of several values of a name counts.
func parseProperties(path, text string, read map[string]setting) error {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		where := fmt.Sprintf("%s line %d", path, i+1)
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for continues(line) && i+1 < len(lines) {
			i++
			line = line[:len(line)-1] + strings.TrimLeft(lines[i], " \t\f")
		}
		end := 0
		for end < len(line) && !strings.ContainsRune("=: \t\f", rune(line[end])) {
			if line[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end, len(line))
		name, err := unescapeProperty(line[:end])
		rest := strings.TrimLeft(line[end:], " \t\f")
		if rest != "" && (rest[0] == '=' || rest[0] == ':') {
			rest = strings.TrimLeft(rest[1:], " \t\f")
		}
		value, err2 := unescapeProperty(rest)
		if err := errors.Join(err, err2); err != nil {
			return usagef("%s: %w", where, err)
		}
		read[name] = setting{value, fromFile, where}
	}
	return nil
}

// continues tells whether a line ends with a backslash that is not escaped.
func continues(line string) bool {
	trailing := len(line) - len(strings.TrimRight(line, `\`))
	return trailing%2 == 1
}

func unescapeProperty(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 't':
			out.WriteByte('\t')
		case 'n':
			out.WriteByte('\n')
		case 'r':
			out.WriteByte('\r')
		case 'f':
			out.WriteByte('\f')
		case 'u':
			if i+4 >= len(s) {
				return "", errors.New(`\u needs four digits`)
			}
			n, err := strconv.ParseUint(s[i+1:i+5], 16, 16)
			if err != nil {
				return "", fmt.Errorf(`\u needs four digits: %w`, err)
			}
			out.WriteRune(rune(n))
			i += 4
		default:
			out.WriteByte(s[i])
		}
	}
	return out.String(), nil
}
