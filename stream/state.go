package stream

import (
	"fmt"
	"sync"
	"time"
)

// State is what an App is doing. Names and meaning follow Kafka Streams' where it has them.
//
//	Created -> Starting -> Rebalancing <-> Restoring <-> Running -> Stopping -> Stopped
//	                 \___________\____________\____________\______________\-> Failed
type State int

const (
	// Created: New was called, Run was not.
	Created State = iota
	// Starting: Run connects, checks topics and creates internal ones.
	Starting
	// Rebalancing: the group distributes tasks.
	Rebalancing
	// Restoring: some assigned task reads its changelog.
	Restoring
	// Running: all assigned tasks process.
	Running
	// Waiting: no broker can be reached, a commit waits for one that cannot, or an input or changelog cannot be read; the application
	// goes on by itself when that is over. The reason says what is missing. What can be read is processed.
	Waiting
	// Stopping: the last commit before Run returns.
	Stopping
	// Stopped: Run returned without an error.
	Stopped
	// Failed: Run returned an error.
	Failed
)

var stateNames = [...]string{"CREATED", "STARTING", "REBALANCING", "RESTORING", "RUNNING", "WAITING", "PENDING_SHUTDOWN", "NOT_RUNNING", "ERROR"}

func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return stateNames[s]
}

// StateChange is one change of an App's state.
type StateChange struct {
	From, To State
	Reason   string // for people: which broker, topic or task, and what is wrong with it
	At       time.Time
}

// states is the state of an App. What it is follows from facts that parts of the runtime set; see derive.
type states struct {
	now    func() time.Time
	listen func(StateChange) // nil: none

	mu       sync.Mutex
	f        facts
	cur      State
	reason   string
	ready    chan struct{} // closed when Running is reached for the first time
	isReady  bool
	queue    []StateChange
	notified sync.WaitGroup
	draining bool
}

// facts are what the state is derived from.
type facts struct {
	started    bool
	checked    bool   // the cluster was reached and the topics are as they must be
	joined     bool   // the group gave us an assignment, which may be empty
	pending    int    // assigned tasks that do not run yet
	restoring  int    // of those, tasks that read their changelog
	lost       string // why the group has to be joined again; empty: it rebalances
	trouble    string
	unreadable string // partitions that cannot be read, and why
	commit     string // why one takes long
	stopping   bool
	done       bool
	err        error
}

func newStates(now func() time.Time, listen func(StateChange)) *states {
	return &states{now: now, listen: listen, ready: make(chan struct{})}
}

func (f *facts) derive() (State, string) {
	switch {
	case f.done && f.err != nil:
		return Failed, f.err.Error()
	case f.done:
		return Stopped, ""
	case f.stopping:
		return Stopping, ""
	case !f.started:
		return Created, ""
	case f.trouble != "":
		return Waiting, f.trouble
	case !f.checked:
		return Starting, "connecting and checking topics"
	case !f.joined && f.lost != "":
		return Rebalancing, f.lost
	case !f.joined:
		return Rebalancing, "waiting for the group to assign tasks"
	case f.unreadable != "":
		return Waiting, f.unreadable
	case f.commit != "":
		return Waiting, f.commit
	case f.restoring > 0:
		return Restoring, fmt.Sprintf("%d of the assigned tasks read their changelogs", f.restoring)
	case f.pending > 0:
		return Rebalancing, fmt.Sprintf("%d of the assigned tasks are being opened", f.pending)
	}
	return Running, ""
}

// set changes facts and, when the state that follows from them is another one, tells the listener.
func (s *states) set(change func(*facts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.f)
	to, reason := s.f.derive()
	if to == Running && !s.isReady {
		s.isReady = true
		close(s.ready)
	}
	if to == s.cur && (to != Waiting || reason == s.reason) {
		s.reason = reason
		return
	}
	c := StateChange{From: s.cur, To: to, Reason: reason, At: s.now()}
	s.cur, s.reason = to, reason
	if s.listen == nil {
		return
	}
	s.queue = append(s.queue, c)
	if !s.draining {
		s.draining = true
		s.notified.Add(1)
		go s.notify()
	}
}

// notify calls the listener outside of the lock, in order.
func (s *states) notify() {
	defer s.notified.Done()
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.draining = false
			s.mu.Unlock()
			return
		}
		c := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		s.listen(c)
	}
}

// wait returns when the listener has heard of everything.
func (s *states) wait() { s.notified.Wait() }

func (s *states) get() (State, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur, s.reason
}
