package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/internal/topo"
)

// partitionCounts asks for numbers of partitions; topics that do not exist are not in the answer.
func (a *App) partitionCounts(ctx context.Context, names []string) (map[string]int32, error) {
	if len(names) == 0 {
		return map[string]int32{}, nil
	}
	topics := make([]kmsg.MetadataRequestTopic, len(names))
	for i, n := range names {
		topics[i] = kmsg.NewMetadataRequestTopic()
		topics[i].Topic = kmsg.StringPtr(n)
	}
	return a.describeTopics(ctx, topics)
}

// allPartitionCounts asks for all topics but those of the cluster itself.
func (a *App) allPartitionCounts(ctx context.Context) (map[string]int32, error) {
	return a.describeTopics(ctx, nil)
}

func (a *App) describeTopics(ctx context.Context, topics []kmsg.MetadataRequestTopic) (map[string]int32, error) {
	out := make(map[string]int32, len(topics))
	err := a.retry(ctx, "describe topics", func(ctx context.Context) error {
		clear(out)
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = false
		req.Topics = topics
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
			case topics == nil && (t.IsInternal || err != nil): // being deleted, or made
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
func (a *App) createInternal(ctx context.Context, p *topo.Plan) error {
	topics := p.Internal
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
				return &misfitError{fmt.Errorf("existing internal topic %s has invalid partitions: expected %d, because %s; actual %d: keys would be looked for in other partitions than they are in; "+
					"reset the application (delete its internal topics and committed offsets), or begin with another Config.AppID", t.Name, t.Partitions, p.Why(t), n)}
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
