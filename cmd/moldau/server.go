package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokerfx"
)

type serverFlags struct {
	listen       []string
	advertise    string
	data         string
	durability   string
	partitions   int32
	noAutoCreate bool
	nodeID       int32
	logLevel     string
	logFormat    string
	stopTimeout  time.Duration
	http         string
}

func (p process) serverCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Serve Kafka clients",
		Long: `Serve Kafka clients until SIGTERM or SIGINT.

  moldau server --listen 127.0.0.1:9092 --data /var/lib/moldau

Once it serves it prints one line with its addresses on stdout; logs go to stderr. An acknowledged record has survived a
power cut, unless --durability page-cache says otherwise.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context(), &f) },
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.listen, "listen", []string{"127.0.0.1:9092"}, "addresses to serve on, HOST:PORT separated by commas; port 0 finds a free one")
	fl.StringVar(&f.advertise, "advertise", "", "HOST:PORT at which clients find this server, if it is not the one they connected to")
	fl.StringVar(&f.data, "data", "moldau-data", "directory of the logs, made if need be")
	fl.StringVar(&f.durability, "durability", "sync", "sync: acknowledge after fsync; page-cache: a crash of the machine may lose the last acknowledged records, as with Apache Kafka")
	fl.Int32Var(&f.partitions, "default-partitions", 1, "partitions of topics that are created without saying")
	fl.BoolVar(&f.noAutoCreate, "no-auto-create", false, "don't create topics because a producer asks for them")
	fl.Int32Var(&f.nodeID, "node-id", 1, "id of this server in the cluster; it stays the same for a data directory")
	fl.StringVar(&f.http, "http", "", "HOST:PORT to serve /metrics (Prometheus), /health and /ready on; default: nowhere")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fl.DurationVar(&f.stopTimeout, "stop-timeout", 10*time.Second, "how long requests may still be answered after SIGTERM")
	return cmd
}

// config makes the configuration of the broker.
func (p process) config(f *serverFlags) (broker.Config, error) {
	cfg := broker.Config{
		NodeID: f.nodeID, Listen: f.listen, DataDir: f.data, DefaultPartitions: f.partitions, NoAutoCreate: f.noAutoCreate,
	}
	if f.data == "" {
		return cfg, usagef("--data is empty: name the directory of the logs")
	}
	if len(f.listen) == 0 {
		return cfg, usagef("--listen is empty: give an address such as 127.0.0.1:9092")
	}
	for _, a := range f.listen {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return cfg, usagef("--listen: %q is not HOST:PORT", a)
		}
	}
	if f.advertise != "" {
		if _, _, err := net.SplitHostPort(f.advertise); err != nil {
			return cfg, usagef("--advertise: %q is not HOST:PORT", f.advertise)
		}
		cfg.Advertise = func(net.Addr) string { return f.advertise }
	}
	i := slices.IndexFunc([]broker.Durability{broker.Sync, broker.PageCache}, func(d broker.Durability) bool { return d.String() == f.durability })
	if i < 0 {
		return cfg, usagef("--durability %q is not %s or %s", f.durability, broker.Sync, broker.PageCache)
	}
	cfg.Durability = broker.Durability(i)
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return cfg, usagef("--log-level %q is not debug, info, warn or error", f.logLevel)
	}
	o := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		cfg.Logger = slog.New(slog.NewTextHandler(p.stderr, o))
	case "json":
		cfg.Logger = slog.New(slog.NewJSONHandler(p.stderr, o))
	default:
		return cfg, usagef("--log-format %q is not text or json", f.logFormat)
	}
	return cfg, nil
}

func (p process) serve(ctx context.Context, f *serverFlags) error {
	cfg, err := p.config(f)
	if err != nil {
		return err
	}
	var b *brokerfx.Broker
	app := fx.New(
		fx.Supply(cfg),
		fx.WithLogger(func() fxevent.Logger { return fxevent.NopLogger }), // the broker logs what it does
		brokerfx.Module,
		fx.Populate(&b),
	)
	// ctx and no time limit: recovering a large directory takes as long as it takes.
	if err := app.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it served
		}
		return err
	}
	if f.http != "" {
		at, stop, err := serveOperations(ctx, f.http, b.Running().Handler(), cfg.Logger)
		if err != nil {
			return errors.Join(err, p.stopServing(app, f.stopTimeout))
		}
		cfg.Logger.Info("metrics, health and readiness are served", "address", at)
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), f.stopTimeout)
			defer cancel()
			if err := stop(ctx); err != nil {
				cfg.Logger.Warn("the HTTP server did not stop in order", "err", err)
			}
		}()
	}
	if _, err := fmt.Fprintf(p.stdout, "moldau serves at %s (data in %s, durability %s)\n", strings.Join(b.Addrs(), ","), f.data, cfg.Durability); err != nil {
		return errors.Join(err, p.stopServing(app, f.stopTimeout))
	}
	select {
	case <-ctx.Done():
		return p.stopServing(app, f.stopTimeout)
	case <-app.Wait():
		// fx listens for SIGTERM too, so this may be the same stop; else only a failure of the broker shuts the application down.
		err := p.stopServing(app, f.stopTimeout)
		if cause := b.Running().Err(); !errors.Is(cause, broker.ErrClosed) {
			return errors.Join(fmt.Errorf("the server stopped: %w", cause), err)
		}
		return err
	}
}

func (p process) stopServing(app *fx.App, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := app.Stop(ctx); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	return nil
}
