package differential

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Recording is a sequence with the answers of Apache Kafka.
type Recording struct {
	Sequence *Sequence
	Answers  []Recorded
}

// Recorded is the answer to one step. At is the step after which it came, -1 if it never did.
type Recorded struct {
	Text  []string `json:",omitempty"`
	Codes []int16  `json:",omitempty"`
	Again bool     `json:",omitempty"` // a client would have asked again
	At    int
}

func newRecording(seq *Sequence) *Recording {
	r := &Recording{Sequence: seq, Answers: make([]Recorded, len(seq.Steps))}
	for i := range r.Answers {
		r.Answers[i].At = -1
	}
	return r
}

// recorded plays a recording in the place of a broker.
type recorded struct {
	r      *Recording
	always chan struct{}
}

func playback(r *Recording) *recorded {
	c := make(chan struct{})
	close(c)
	return &recorded{r: r, always: c}
}

func (p *recorded) name() string { return "kafka" }
func (p *recorded) send(int)     {}
func (p *recorded) answered(i, now int) <-chan struct{} {
	if at := p.r.Answers[i].At; at >= 0 && at <= now {
		return p.always
	}
	return nil
}
func (p *recorded) eventually(i int) bool { return p.r.Answers[i].At >= 0 }
func (p *recorded) codes(i int) []int16   { return p.r.Answers[i].Codes }
func (p *recorded) retriable(i int) bool  { return p.r.Answers[i].Again }
func (p *recorded) text(i int) []string   { return p.r.Answers[i].Text }
func (p *recorded) settle(int)            {}
func (p *recorded) dropped()              {}
func (p *recorded) close()                {}

// writeRecordings stores recordings, one line of JSON each, compressed.
func writeRecordings(path string, all []*Recording) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("store recordings: %w", err)
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	enc := json.NewEncoder(z)
	for _, r := range all {
		if err := enc.Encode(r); err != nil {
			return errors.Join(fmt.Errorf("store recordings: %w", err), f.Close())
		}
	}
	return errors.Join(z.Close(), f.Close())
}

// readRecordings reads what writeRecordings wrote.
func readRecordings(path string) ([]*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read recordings: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("read recordings in %s: %w", path, err)
	}
	var all []*Recording
	for dec := json.NewDecoder(z); ; {
		r := &Recording{}
		if err := dec.Decode(r); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read recordings in %s: %w", path, err)
		}
		all = append(all, r)
	}
}
