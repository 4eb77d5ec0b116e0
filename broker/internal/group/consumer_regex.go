package group

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// regexUpdate says what became of a member's regular expression.
type regexUpdate int

const (
	regexSame     regexUpdate = iota
	regexChanged              // what it matches is not known yet
	regexResolved             // what it matches is known
)

// regexRest is the least time between two resolutions for one group.
const regexRest = 10 * time.Second

// updateRegex takes in a change of the member's regular expression, and has those of
// the group resolved if that is due: because there is a new one, because of new topics,
// or because of time.
func (c *consumerChange) updateRegex(next *consumerMember) (regexUpdate, *apiError) {
	g := c.g
	before, after := deref(c.old.regex), deref(next.regex)
	subscribers := g.regexUsers
	update, refresh := regexSame, false
	if !equalPtr(c.old.regex, next.regex) {
		update = regexChanged
		if before != "" && subscribers[before] == 1 {
			c.write(coordinator.Record{Key: modernKey(keyConsumerRegex, g.id, before)})
		}
		switch {
		case after != "" && subscribers[after] == 0:
			if _, err := compileRegex(after); err != nil {
				return 0, errorf(kerr.InvalidRegularExpression, "%q is not a regular expression: %v", after, err)
			}
			refresh = true
		case after != "":
			if _, ok := g.regexes[after]; ok {
				update = regexResolved
			}
		case before != "":
			update = regexResolved
		}
	}
	if !refresh && len(subscribers) == 0 || c.p.resolving {
		return update, nil
	}
	var last resolvedRegex
	resolved := false
	for _, r := range g.regexes { // all of one time
		last, resolved = r, true
		break
	}
	since := c.now.Sub(time.UnixMilli(last.at))
	if resolved && since <= regexRest {
		return update, nil
	}
	wanted := len(subscribers)
	if before != "" && before != after && subscribers[before] == 1 {
		wanted--
	}
	if after != "" && subscribers[after] == 0 {
		wanted++
	}
	refresh = refresh || wanted != len(g.regexes) || last.version < c.m.topicsCreated || !resolved || since > c.m.cfg.RegexRefresh
	if refresh && wanted > 0 {
		c.p.resolving = true
		w, _ := c.e.OnCommitted.(wrote)
		w.regexes = append(w.regexes, g.id)
		c.e.OnCommitted = w
	}
	return update, nil
}

// maxRegexSize bounds a compiled regular expression, in instructions: the time of a match grows with them, and a short text can
// stand for very many. Thousands of topics named one by one fit.
const maxRegexSize = 50_000

// compileRegex makes a regular expression (RE2) that matches whole names.
func compileRegex(text string) (*regexp.Regexp, error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if len(prog.Inst) > maxRegexSize {
		return nil, fmt.Errorf("it takes %d instructions to match; at most %d are allowed", len(prog.Inst), maxRegexSize)
	}
	// In its canonical form: a text may have an open \Q at its end.
	return regexp.Compile(`\A(?:` + parsed.String() + `)\z`)
}

// resolveRegexes finds the topics of a group's regular expressions anew.
func (m *Machine) resolveRegexes(now time.Time, e *coordinator.Effects, id string) {
	p := m.present[id]
	if p == nil || !p.resolving {
		return
	}
	p.resolving = false
	g, ok := m.modern(id).(*consumerGroup)
	if !ok {
		return
	}
	r := roster{g: g}
	subs := r.subscriptions()
	byRegex := map[string]int{}
	bump := false
	for _, text := range sortedKeys(subs.regexes) {
		found := resolvedRegex{version: m.topics.Version(), at: now.UnixMilli()}
		if re, err := compileRegex(text); err == nil { // checked when it came
			for name := range m.topics.Names() {
				if re.MatchString(name) {
					found.topics = append(found.topics, name)
				}
			}
		}
		found.topics = sortedSet(found.topics)
		for _, name := range found.topics {
			byRegex[name]++
		}
		bump = bump || !slices.Equal(found.topics, g.regexes[text].topics)
		e.Append = append(e.Append, g.regexRecord(text, found))
	}
	subs.byRegex = byRegex
	hash := m.metadataHash(subs.topics())
	if bump || hash != g.metadataHash {
		e.Append = append(e.Append, g.epochRecord(g.epoch+1, hash))
		p.stale, p.checked = false, g.epoch+1
	}
}
