package topo

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Reading says how a source reads its topics.
type Reading struct {
	Types string // of key and value, for messages
	Same  string // equal for two calls that may share a source
	Table bool   // read as a table, whose source is never shared
}

// Pattern matches names of topics as a whole.
type Pattern struct {
	text string
	re   *regexp.Regexp
}

// NewPattern compiles a regular expression.
func NewPattern(text string) (*Pattern, error) {
	re, err := regexp.Compile(`^(?:` + text + `)$`)
	if err != nil {
		if _, own := regexp.Compile(text); own != nil {
			err = own // without what was put around it
		}
		return nil, err
	}
	return &Pattern{text, re}, nil
}

func (p *Pattern) String() string { return p.text }

// Match tells whether the pattern matches all of a name.
func (p *Pattern) Match(topic string) bool { return p.re.MatchString(topic) }

// topicNames are the topics that a node reads or writes, as far as they have names.
func (n *Node) topicNames() []string {
	var names []string
	for _, t := range n.Topics {
		names = append(names, t.Name)
	}
	if n.Topic.Name != "" {
		names = append(names, n.Topic.Name)
	}
	return names
}

// what is how a source is named in messages.
func (n *Node) what() string {
	switch {
	case n.Pattern != nil:
		return "pattern " + n.Pattern.text
	case len(n.Topics) == 1:
		return "topic " + n.Topics[0].Name
	}
	return "topics " + strings.Join(n.topicNames(), ", ")
}

// subscribed tells whether two sources read the same: equal sets of topics, or one pattern.
func (n *Node) subscribed(o *Node) bool {
	if n.Pattern != nil || o.Pattern != nil {
		return n.Pattern != nil && o.Pattern != nil && n.Pattern.text == o.Pattern.text
	}
	return len(n.Topics) == len(o.Topics) && !slices.ContainsFunc(n.Topics, func(t Topic) bool { return !slices.Contains(o.Topics, t) })
}

// overlap is a topic that both sources read, "" if none is known before there are topics.
func (n *Node) overlap(o *Node) string {
	for _, t := range n.Topics {
		if slices.Contains(o.Topics, t) || o.Pattern != nil && o.Pattern.Match(t.Name) {
			return t.Name
		}
	}
	if n.Pattern != nil && o.Pattern == nil {
		return o.overlap(n)
	}
	return ""
}

// AddSource adds a source of users' topics, each once. Two streams of one set of topics, or of one pattern, share the first
// one's node, if both read in the same way; then the node of the second is not added and the first is the result. Sets that
// overlap without being equal are a mistake. A topic that is read as a table has one reader.
func (g *Graph) AddSource(n *Node, how Reading) *Node {
	n.Kind, n.reading = Source, how
	for i, t := range n.Topics {
		g.CheckName(n.At, "topic", t.Name)
		if slices.Contains(n.Topics[:i], t) {
			n.Topics = slices.Delete(slices.Clone(n.Topics), i, i+1)
			return g.AddSource(n, how)
		}
	}
	for _, old := range g.sources {
		same, topic := old.subscribed(n), old.overlap(n)
		switch {
		case !same && topic == "":
			continue
		case old.reading.Table || how.Table:
			g.Mistakef(n.At, "topic %s is already read at %s: a table must be the only reader of its topic; use its ToStream", topic, old.At)
		case !same && (old.Pattern != nil || n.Pattern != nil):
			g.Mistakef(n.At, "topic %s is read by the %s here or at %s too: a topic has one source; choose a pattern that does not match it", topic, cmpPattern(old, n), old.At)
		case !same:
			g.Mistakef(n.At, "topic %s has already been registered by another source, of the %s, at %s: sources with a topic in common must read the same topics", topic, old.what(), old.At)
		case old.reading.Types != how.Types:
			g.Mistakef(n.At, "%s is read as %s, but as %s at %s: use one topic handle for both", n.what(), how.Types, old.reading.Types, old.At)
		case old.reading.Same != how.Same:
			g.Mistakef(n.At, "%s is read with other serdes or event time than at %s: use one topic handle for both", n.what(), old.At)
		case old.Start != n.Start:
			g.Mistakef(n.At, "%s is read from another start than at %s: give both the same option StartAt", n.what(), old.At)
		default:
			return old
		}
		return g.Add(n)
	}
	g.sources = append(g.sources, n)
	return g.Add(n)
}

// cmpPattern is the one of two sources that has a pattern.
func cmpPattern(a, b *Node) string {
	if a.Pattern != nil {
		return a.what()
	}
	return b.what()
}

// checkPatterns finds patterns that match the name of a repartition topic, which Kafka Streams refuses.
func (t *Topology) checkPatterns(g *Graph) {
	for _, n := range g.sources {
		for _, r := range g.repartitions {
			if n.Pattern != nil && n.Pattern.Match(r.Topic.Name) {
				g.Mistakef(n.At, "%s matches the repartition topic %s, needed at %s", n.what(), r.Topic.Name, r.At)
			}
		}
	}
}

// Patterns are those of the sources.
func (t *Topology) Patterns() []*Pattern {
	var all []*Pattern
	for _, n := range t.Nodes {
		if n.Pattern != nil {
			all = append(all, n.Pattern)
		}
	}
	return all
}

// resolve finds the topics of each source among those of the cluster. Internal topics of the application match no pattern: what an
// application writes for itself is no input of it.
func (t *Topology) resolve(appID string, partitions map[string]int32) (map[*Node][]Topic, error) {
	topics := map[*Node][]Topic{}
	by := map[string]*Node{}
	for _, n := range t.Nodes {
		if n.Kind != Source {
			continue
		}
		if n.Pattern == nil {
			topics[n] = n.Topics
			continue
		}
		for name, count := range partitions {
			if count < 1 || !n.Pattern.Match(name) || Owned(appID, name) {
				continue
			}
			if old := by[name]; old != nil {
				return nil, fmt.Errorf("topic %s matches two patterns: %s (%s) and %s (%s): a topic has one source", name, old.Pattern, old.At, n.Pattern, n.At)
			}
			by[name] = n
			topics[n] = append(topics[n], Topic{Name: name})
		}
		slices.SortFunc(topics[n], func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	}
	return topics, nil
}

// Owned tells whether a topic is one that the application makes for itself, or made in a former version.
func Owned(appID, topic string) bool {
	return strings.HasPrefix(topic, appID+"-") && (strings.HasSuffix(topic, "-changelog") || strings.HasSuffix(topic, repartitionSuffix))
}
