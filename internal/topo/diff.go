package topo

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Severity says what a difference does to an application that is upgraded in place.
type Severity uint8

// The severities.
const (
	Note Severity = iota // nothing is lost: new things, and state that is rebuilt from changelogs
	Loss                 // state is lost or mixed up, or records in internal topics are left behind
)

func (s Severity) String() string {
	if s == Loss {
		return "LOSS"
	}
	return "note"
}

// Difference is one difference between two topologies.
type Difference struct {
	Severity Severity
	Text     string
}

func (d Difference) String() string { return d.Severity.String() + ": " + d.Text }

// Diff tells what an upgrade from one topology to another, under the same application id, loses or leaves behind: first
// stores, then repartition topics, each in the order of the old topology, then what is new.
func Diff(old, new *Description) []Difference {
	d := differ{old: old, new: new}
	d.stores()
	d.repartitions()
	return d.all
}

type differ struct {
	old, new *Description
	all      []Difference
}

func (d *differ) add(s Severity, format string, args ...any) {
	d.all = append(d.all, Difference{s, fmt.Sprintf(format, args...)})
}

// generatedName are names with a number, which changes with the operators before.
var generatedName = regexp.MustCompile(`^(.*-)\d{10}(-.*)?$`)

func isGenerated(name string) bool { return generatedName.MatchString(name) }

// moved are the names in new, of the same pattern as a generated name, that old does not have.
func moved(name string, old, new []string) []string {
	m := generatedName.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	var to []string
	for _, n := range new {
		if o := generatedName.FindStringSubmatch(n); o != nil && o[1] == m[1] && o[2] == m[2] && !slices.Contains(old, n) {
			to = append(to, n)
		}
	}
	return to
}

type placed struct {
	sub   *SubtopologyDescription
	store StoreDescription
	parts int32
}

func (d *Description) stores() (names []string, by map[string]placed) {
	by = map[string]placed{}
	for i := range d.Subtopologies {
		s := &d.Subtopologies[i]
		for _, st := range s.Stores {
			names = append(names, st.Name)
			by[st.Name] = placed{sub: s, store: st}
		}
	}
	return names, by
}

func (d *Description) repartitions() (names []string, by map[string]placed) {
	by = map[string]placed{}
	for i := range d.Subtopologies {
		s := &d.Subtopologies[i]
		for _, r := range s.Repartitions {
			names = append(names, r.Topic)
			by[r.Topic] = placed{sub: s, parts: r.Partitions}
		}
	}
	return names, by
}

// inputs are the topics that a sub-topology reads.
func (s *SubtopologyDescription) inputs() string {
	var topics []string
	for _, n := range s.Nodes {
		if n.Kind == "source" {
			topics = append(topics, n.Topics...)
			if n.Pattern != "" {
				topics = append(topics, n.Pattern)
			}
		}
	}
	slices.Sort(topics)
	return strings.Join(topics, ", ")
}

func (d *differ) stores() {
	oldNames, old := d.old.stores()
	newNames, now := d.new.stores()
	for _, name := range oldNames {
		o := old[name]
		n, there := now[name]
		if !there {
			d.gone("store", name, "its content is not found again, and its changelog "+name+"-changelog stays behind", moved(name, oldNames, newNames))
			continue
		}
		switch {
		case o.store.Kind != "" && n.store.Kind != "" && o.store.Kind != n.store.Kind:
			d.add(Loss, "store %s was a %s and is a %s: what is stored cannot be read", name, o.store.Kind, n.store.Kind)
		case o.store.Types != "" && n.store.Types != "" && o.store.Types != n.store.Types:
			d.add(Loss, "store %s was of %s and is of %s: what is stored may not be readable", name, o.store.Types, n.store.Types)
		case o.sub.Global != n.sub.Global:
			d.add(Loss, "store %s was %s and is %s", name, globality(o.sub), globality(n.sub))
		case isGenerated(name) && o.sub.inputs() != n.sub.inputs():
			d.add(Loss, "store %s has a generated name and is fed by other topics: %s, and now %s: it may be another operator's; name it", name, o.sub.inputs(), n.sub.inputs())
		case o.sub.inputs() != n.sub.inputs():
			d.add(Note, "store %s was fed by %s, and is by %s: its partitions must stay as many", name, o.sub.inputs(), n.sub.inputs())
		case o.sub.ID != n.sub.ID:
			d.add(Note, "store %s was in sub-topology %d and is in %d: its tasks have other names and are restored from the changelog", name, o.sub.ID, n.sub.ID)
		}
		was, is := o.store.Source, n.store.Source
		switch {
		case was != "" && is != "" && was != is:
			d.add(Loss, "store %s was restored from topic %s and is from %s", name, was, is)
		case o.store.Changelog == nil || n.store.Changelog == nil || *o.store.Changelog == *n.store.Changelog:
		case is != "":
			d.add(Note, "store %s is restored from topic %s, which must keep all of its rows, and %s-changelog stays behind", name, is, name)
		case was != "":
			d.add(Note, "store %s was restored from topic %s and has a changelog now, which begins with the next changes: what it holds already is not in it", name, was)
		default:
			if *o.store.Changelog {
				d.add(Loss, "store %s has no changelog any more: it is lost with its directory, and %s-changelog stays behind", name, name)
			} else {
				d.add(Note, "store %s has a changelog now, which begins with the next changes: what it holds already is not in it", name)
			}
		}
	}
	for _, name := range newNames {
		if _, was := old[name]; !was {
			d.add(Note, "store %s is new and begins empty%s", name, advice(name))
		}
	}
}

func globality(s *SubtopologyDescription) string {
	if s.Global {
		return "global"
	}
	return "part of tasks"
}

func advice(name string) string {
	if isGenerated(name) {
		return "; its name is generated and changes with the operators before it: name it"
	}
	return ""
}

func (d *differ) gone(what, name, consequence string, candidates []string) {
	switch len(candidates) {
	case 0:
		d.add(Loss, "%s %s is gone: %s", what, name, consequence)
	default:
		d.add(Loss, "%s %s is gone: %s; its name is generated, and it may now be %s: name it", what, name, consequence, strings.Join(candidates, " or "))
	}
}

func (d *differ) repartitions() {
	oldNames, old := d.old.repartitions()
	newNames, now := d.new.repartitions()
	for _, name := range oldNames {
		o := old[name]
		n, there := now[name]
		switch {
		case !there:
			d.gone("repartition topic", name, "records in it that are not yet processed are left behind", moved(name, oldNames, newNames))
		case o.parts != n.parts && o.parts > 0 && n.parts > 0:
			d.add(Loss, "repartition topic %s had %d partitions and is to have %d: keys move to other tasks, whose stores do not have them", name, o.parts, n.parts)
		case o.parts != n.parts:
			d.add(Note, "repartition topic %s: the program asked for %s partitions and asks for %s: the topic must have as many as before", name, asked(o.parts), asked(n.parts))
		}
	}
	for _, name := range newNames {
		if _, was := old[name]; !was {
			d.add(Note, "repartition topic %s is new%s", name, advice(name))
		}
	}
}

func asked(n int32) string {
	if n == 0 {
		return "no number of"
	}
	return fmt.Sprint(n)
}
