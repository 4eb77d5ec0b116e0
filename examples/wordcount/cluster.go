package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
)

// cluster is where the topics are: the broker inside this process, or the one of -brokers.
type cluster struct {
	brokers []string
	dial    []kgo.Opt // how to reach them: nothing special for TCP
	client  *kgo.Client
	admin   *kadm.Client
	broker  *broker.Broker // nil with -brokers
}

func (c *cluster) options() []kgo.Opt {
	return append([]kgo.Opt{kgo.SeedBrokers(c.brokers...), kgo.ClientID("wordcount-example")}, c.dial...)
}

func (c *cluster) close() error {
	if c.client != nil {
		c.client.Close()
	}
	if c.broker != nil {
		return c.broker.Close()
	}
	return nil
}

// cluster starts the broker inside this process unless another one is named, and waits until it answers.
func (o *options) cluster(ctx context.Context, p *progress) (*cluster, error) {
	c := &cluster{brokers: o.brokers}
	if len(c.brokers) == 0 {
		b, err := broker.Start(ctx, broker.Config{DataDir: filepath.Join(o.stateDir, "broker")})
		if err != nil {
			return nil, fmt.Errorf("start the broker: %w", err)
		}
		c.broker, c.brokers, c.dial = b, b.Addrs(), []kgo.Opt{kgo.Dialer(b.DialContext)}
	}
	var err error
	if c.client, err = kgo.NewClient(c.options()...); err != nil {
		return nil, errors.Join(err, c.close())
	}
	c.admin = kadm.NewClient(c.client)
	if err := c.reach(ctx, o.patience, p); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// reach waits until the cluster answers.
func (c *cluster) reach(ctx context.Context, patience time.Duration, p *progress) error {
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var first error // what is wrong; the last attempt fails because the time is over
	for {
		err := c.client.Ping(limit)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if first == nil {
			first = err
			p.say("broker %s: %v; trying for %s", strings.Join(c.brokers, ","), err, patience)
		}
		if limit.Err() != nil {
			return fmt.Errorf("no broker answers at %s for %s (%w); check that it runs and that -brokers names its address",
				strings.Join(c.brokers, ","), patience, first)
		}
		select {
		case <-limit.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// createTopics makes the two topics unless they exist, and returns how many partitions the input has.
func (c *cluster) createTopics(ctx context.Context, partitions int32) (int32, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	results, err := c.admin.CreateTopics(ctx, partitions, -1, nil, lineTopic, countTopic)
	if err != nil {
		return 0, fmt.Errorf("create topics: %w", err)
	}
	for _, r := range results.Sorted() {
		if r.Err != nil && !errors.Is(r.Err, kerr.TopicAlreadyExists) {
			return 0, fmt.Errorf("create topic %s: %w %s", r.Topic, r.Err, r.ErrMessage)
		}
	}
	topics, err := c.admin.ListTopics(ctx, lineTopic)
	if err == nil {
		err = topics[lineTopic].Err
	}
	if err != nil {
		return 0, fmt.Errorf("topic %s: %w", lineTopic, err)
	}
	return int32(len(topics[lineTopic].Partitions)), nil
}

// readLines returns what the input topic holds now.
func (c *cluster) readLines(ctx context.Context) ([]string, error) {
	var lines []string
	err := readToEnd(ctx, c, lineTopic, func(r *kgo.Record) error {
		lines = append(lines, string(r.Value))
		return nil
	})
	return lines, err
}
