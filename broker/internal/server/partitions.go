package server

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// directoryID is the id of the log directory as the metadata log has it; zero, Kafka's "not assigned", if it is none.
func directoryID(m *replica.Manager) (id controller.TopicID) {
	if b, err := base64.RawURLEncoding.DecodeString(m.DirectoryID()); err == nil && len(b) == len(id) {
		copy(id[:], b)
	}
	return id
}

// each does things that wait for the disk, some at a time.
type each struct {
	running chan struct{}
	all     sync.WaitGroup
}

func (e *each) do(f func()) {
	if e.running == nil {
		e.running = make(chan struct{}, 16)
	}
	e.running <- struct{}{}
	e.all.Go(func() {
		f()
		<-e.running
	})
}

func (e *each) wait() { e.all.Wait() }

// Prepare implements controller.Hooks: it makes the logs of new partitions. One that cannot be made (a full disk) is logged
// and tried again when it is used; the others are not held up by it.
func (s *Server) Prepare(next *controller.Image, d controller.Delta) {
	s.reconfigured = s.renew(next, d)
	var opening each
	open := func(t *controller.Topic, first int) {
		for i := first; i < len(t.Partitions); i++ {
			opening.do(func() {
				if _, err := s.openPartition(t, int32(i)); err != nil {
					s.log.Error("cannot open a partition's log; it is offline until this works", "topic", t.Name, "partition", i, "err", err)
				}
			})
		}
	}
	for _, t := range d.Created {
		open(t, 0)
	}
	for _, t := range d.Extended {
		open(t.Topic, t.Had)
	}
	opening.wait()
}

// Published implements controller.Hooks: it deletes the logs of deleted partitions and passes on what changed.
func (s *Server) Published(next *controller.Image, d controller.Delta) {
	for _, t := range d.Created {
		s.lead(t)
	}
	if slices.ContainsFunc(d.Deleted, func(t *controller.Topic) bool { return t.Name == controller.OffsetsTopic }) {
		s.groups.Forget()
	}
	var deleting each
	s.repair.Lock() // who found a topic just before it was deleted must not make a log of it just after
	for _, t := range d.Deleted {
		for i := range t.Partitions {
			if p, ok := s.replicas.Partition(t.Name, int32(i)); !ok || p.TopicID() != t.ID {
				continue // never made, or of the topic's next life
			}
			deleting.do(func() {
				if err := s.replicas.DeletePartition(t.Name, int32(i)); err != nil {
					s.log.Error("cannot delete a partition's log; the next start tries again", "topic", t.Name, "partition", i, "err", err)
				}
			})
		}
	}
	deleting.wait()
	s.repair.Unlock()
	for _, t := range d.Elected {
		for i, p := range t.Partitions {
			if r, ok := s.replicas.Partition(t.Name, int32(i)); ok {
				r.SetLeaderEpoch(p.LeaderEpoch)
			}
		}
		if t.Name == controller.TxnTopic || t.Name == controller.OffsetsTopic {
			s.lead(t) // its coordinators write markers in the epoch of their partition, or load anew what others wrote
		}
	}
	if len(d.Quotas) > 0 {
		s.learnQuotas()
	}
	s.groupsLearn(next, d)
	if s.reconfigured {
		s.configure(next)
	} else {
		for _, t := range d.Changed {
			s.configureTopic(t)
		}
	}
}

// sweep finishes deletions that a crash interrupted. Directories that the metadata does not explain are left alone.
func (s *Server) sweep(removed map[string]bool) error {
	names, err := s.replicas.Unclaimed()
	if err != nil {
		return err
	}
	for _, name := range names {
		at := strings.LastIndexByte(name, '-')
		if at < 0 || !removed[name[:at]] {
			if _, ok := s.ctl.Image().Topic(name[:max(at, 0)]); !ok {
				s.log.Warn("the data directory has a partition that the metadata does not know; it is left alone, remove it if it is not missed", "directory", name)
			}
			continue // of a known topic: its log could not be opened, which was logged
		}
		partition, err := strconv.ParseInt(name[at+1:], 10, 32)
		if err != nil {
			return fmt.Errorf("partition directory %s: %w", name, err)
		}
		if err := s.replicas.DeletePartition(name[:at], int32(partition)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) openPartition(t *controller.Topic, partition int32) (*replica.Partition, error) {
	return s.replicas.CreatePartition(t.Name, t.ID, partition, s.logConfig(t), t.Partitions[partition].LeaderEpoch)
}

// partition finds a partition by name.
func (s *Server) partition(img *controller.Image, topic string, partition int32) (*replica.Partition, error) {
	t, ok := img.Topic(topic)
	if !ok {
		return nil, &controller.Error{Code: kerr.UnknownTopicOrPartition, Message: fmt.Sprintf("topic %q does not exist", topic)}
	}
	return s.partitionOf(t, partition)
}

func (s *Server) partitionOf(t *controller.Topic, partition int32) (*replica.Partition, error) {
	if partition < 0 || int(partition) >= len(t.Partitions) {
		return nil, &controller.Error{Code: kerr.UnknownTopicOrPartition, Message: fmt.Sprintf("topic %q has %d partitions, not a partition %d", t.Name, len(t.Partitions), partition)}
	}
	p, ok := s.replicas.Partition(t.Name, partition)
	if ok && p.TopicID() == t.ID {
		return p, nil
	}
	// Its log could not be made when the topic was; or the topic is just being deleted.
	s.repair.Lock()
	defer s.repair.Unlock()
	if now, ok := s.ctl.Image().TopicByID(t.ID); !ok || int(partition) >= len(now.Partitions) {
		return nil, &controller.Error{Code: kerr.UnknownTopicOrPartition, Message: fmt.Sprintf("topic %q was deleted", t.Name)}
	}
	p, err := s.openPartition(t, partition)
	if err != nil {
		var k *kerr.Error
		if !errors.As(err, &k) {
			err = &controller.Error{Code: kerr.KafkaStorageError, Message: fmt.Sprintf("topic %q partition %d is offline: %v", t.Name, partition, err)}
		}
		return nil, err
	}
	return p, nil
}

// checkEpoch compares the leader epoch that a client knows (-1: none) with the partition's.
func checkEpoch(p *replica.Partition, known int32) error {
	now := p.LeaderEpoch()
	switch {
	case known == -1 || known == now:
		return nil
	case known < now:
		return kerr.FencedLeaderEpoch
	}
	return kerr.UnknownLeaderEpoch
}
