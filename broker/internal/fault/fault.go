// Package fault lets tests break a broker's answers on purpose.
//
//	request --> Plan.Next --> no rule: served as ever
//	                          rule:    delay, then refuse with an error, disconnect, or serve and lose the answer
//
// A broker has no Plan unless a test gives it one. Rules apply in the order in which they were added; each request uses up at most
// one.
package fault

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Rule is one fault.
type Rule struct {
	Key kmsg.Key
	// Times is how many requests it hits; below 0: all.
	Times int
	// Match, if not nil, chooses among the requests of the key.
	Match func(kmsg.Request) bool
	// Code answers with an error code in place of performing the request; 0 performs it.
	Code int16
	// Delay is how long the answer waits.
	Delay time.Duration
	// Disconnect closes the connection in place of performing the request; Lose performs it and then closes.
	Disconnect, Lose bool
}

// Plan is a set of rules. Its methods may be called from any goroutine.
type Plan struct {
	mu    sync.Mutex
	rules []*Rule
	seen  map[int16]int
	watch chan struct{} // closed and replaced when something was seen
}

// New makes an empty plan.
func New() *Plan { return &Plan{seen: map[int16]int{}, watch: make(chan struct{})} }

// Add adds a rule.
func (p *Plan) Add(r Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, &r)
}

// Clear removes all rules.
func (p *Plan) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// Next takes note of a request and gives the rule that hits it.
func (p *Plan) Next(req kmsg.Request) (Rule, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[req.Key()]++
	close(p.watch)
	p.watch = make(chan struct{})
	for _, r := range p.rules {
		if r.Key.Int16() != req.Key() || r.Times == 0 || r.Match != nil && !r.Match(req) {
			continue
		}
		if r.Times > 0 {
			r.Times--
		}
		return *r, true
	}
	return Rule{}, false
}

// Seen is the number of requests of a key so far; changed is closed when there is another request of any key.
func (p *Plan) Seen(key kmsg.Key) (n int, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[key.Int16()], p.watch
}
