package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/internal/topo"
)

// prepareTopics checks the topics of the program, creates the internal ones that are missing and returns
// the plan of tasks.
func (a *App) prepareTopics(ctx context.Context) (*topo.Plan, error) {
	read, written := a.topology.UserTopics()
	if a.cfg.DeadLetterTopic != "" {
		written = append(written, a.cfg.DeadLetterTopic)
	}
	names := slices.Concat(read, written)
	partitions, err := a.partitionCounts(ctx, names)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, t := range names {
		if partitions[t] == 0 && !slices.Contains(missing, t) {
			missing = append(missing, t)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, fmt.Errorf("topics that the application reads or writes do not exist: %s; create them first (for example: moldau topics create NAME --partitions N)", strings.Join(missing, ", "))
	}
	plan, err := a.topology.Plan(a.cfg.AppID, partitions)
	if err != nil {
		return nil, err
	}
	if err := a.createInternal(ctx, plan.Internal); err != nil {
		return nil, err
	}
	return plan, nil
}

// partitionCounts asks for numbers of partitions; topics that do not exist are not in the answer.
func (a *App) partitionCounts(ctx context.Context, names []string) (map[string]int32, error) {
	out := make(map[string]int32, len(names))
	if len(names) == 0 {
		return out, nil
	}
	err := a.retry(ctx, "describe topics", func(ctx context.Context) error {
		clear(out)
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = false
		for _, n := range names {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = kmsg.StringPtr(n)
			req.Topics = append(req.Topics, t)
		}
		resp, err := req.RequestWith(ctx, a.client)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			name := ""
			if t.Topic != nil {
				name = *t.Topic
			}
			switch err := kerr.ErrorForCode(t.ErrorCode); {
			case err == nil:
				out[name] = int32(len(t.Partitions))
				a.topicIDs.put(name, t.TopicID)
			case errors.Is(err, kerr.UnknownTopicOrPartition):
			default:
				return fmt.Errorf("topic %s: %w", name, err)
			}
		}
		return nil
	})
	return out, err
}

// createInternal creates repartition and changelog topics, and checks those that exist.
func (a *App) createInternal(ctx context.Context, topics []topo.InternalTopic) error {
	if len(topics) == 0 {
		return nil
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
	}
	existing, err := a.partitionCounts(ctx, names)
	if err != nil {
		return err
	}
	created := 0
	adm := kadm.NewClient(a.client)
	for _, t := range topics {
		if existing[t.Name] > 0 {
			continue
		}
		rf := a.cfg.Topics.ReplicationFactor
		if rf == 0 {
			rf = -1
		}
		configs := make(map[string]*string)
		for _, m := range []map[string]string{t.Config, a.cfg.Topics.Configs, storeConfig(t)} {
			for k, v := range m {
				configs[k] = kadm.StringPtr(v)
			}
		}
		err := a.retry(ctx, "create internal topic "+t.Name, func(ctx context.Context) error {
			r, err := adm.CreateTopic(ctx, t.Partitions, rf, configs, t.Name)
			if err == nil {
				err = r.Err
			}
			if errors.Is(err, kerr.TopicAlreadyExists) {
				return nil // another instance was faster; its size is checked below
			}
			return err
		})
		if err != nil {
			return err
		}
		a.log.Info("created internal topic", "topic", t.Name, "partitions", t.Partitions)
		created++
	}
	for tries := 0; created > 0 || tries == 0; tries++ {
		if created > 0 {
			if existing, err = a.partitionCounts(ctx, names); err != nil {
				return err
			}
		}
		known := true
		for _, t := range topics {
			switch n := existing[t.Name]; {
			case n == 0:
				known = false // created, but not known to every broker yet
			case n != t.Partitions:
				return fmt.Errorf("internal topic %s has %d partitions, but the topology needs %d: the number of partitions of its input changed; "+
					"reset the application (delete its internal topics and committed offsets), or give the topic the partitions back", t.Name, n, t.Partitions)
			}
		}
		if known {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(backoff(tries)):
		}
	}
	return nil
}

// storeConfig is what the program set for one store's changelog: it wins over Config.Topics.
func storeConfig(t topo.InternalTopic) map[string]string {
	if t.Store == nil {
		return nil
	}
	return maps.Clone(t.Store.Config)
}

// retry calls f until it works, fails for good, or the cluster has been in trouble for TaskTimeout.
func (a *App) retry(ctx context.Context, what string, f func(context.Context) error) error {
	deadline := time.Now().Add(a.cfg.TaskTimeout)
	for tries := 0; ; tries++ {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !temporary(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: gave up after %v: %w", what, a.cfg.TaskTimeout, err)
		}
		a.log.Debug("will try again", "what", what, "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(backoff(tries)):
		}
	}
}
