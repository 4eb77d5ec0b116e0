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
	"github.com/spf13/pflag"
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
	configFile   string
	property     []string
}

func (p process) serverCommand() *cobra.Command { return p.serverCommandWith(&serverFlags{}) }

func (p process) serverCommandWith(f *serverFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Serve Kafka clients",
		Long: `Serve Kafka clients until SIGTERM or SIGINT.

  moldau server --listen 127.0.0.1:9092 --data /var/lib/moldau

Everything that Kafka's server.properties can say can be said here, by Kafka's names: in a YAML file (--config server.yaml), where
nested names are joined by dots, or in a .properties file; in variables (MOLDAU_LOG_RETENTION_MS); with --property NAME=VALUE. Flags
win over variables, variables over the file, in which flags have names such as moldau.durability. A name that is not known is an
error.

  moldau server --config server.yaml --property num.partitions=4

Once it serves it prints one line with its addresses on stdout; logs go to stderr. An acknowledged record has survived a
power cut, unless --durability page-cache says otherwise.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context(), cmd.Flags(), f) },
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
	fl.StringVar(&f.configFile, "config", "", "YAML or .properties file with configurations by Kafka's names")
	fl.StringArrayVarP(&f.property, "property", "p", nil, "NAME=VALUE of a configuration by Kafka's name; may be repeated")
	fl.DurationVar(&f.stopTimeout, "stop-timeout", 10*time.Second, "how long requests may still be answered after SIGTERM")
	return cmd
}

// config makes the configuration of the broker. What neither a flag nor a property says has the default of the flag.
func (p process) config(flags *pflag.FlagSet, f *serverFlags) (broker.Config, error) {
	var cfg broker.Config
	var err error
	if cfg.Properties, err = p.properties(flags, f.configFile, f.property); err != nil {
		return cfg, err
	}
	// says tells whether the flag counts: it was given, or nothing else says what it would.
	says := func(flag string) bool {
		return flags.Changed(flag) || !slices.ContainsFunc(flagProperties[flag], func(name string) bool { _, ok := cfg.Properties[name]; return ok })
	}
	if says("node-id") {
		cfg.NodeID = f.nodeID
		if f.nodeID == 0 { // the field's 0 is "not set"
			if err := nodeZero(cfg.Properties); err != nil {
				return cfg, err
			}
		}
	}
	if says("default-partitions") {
		cfg.DefaultPartitions = f.partitions
	}
	if says("no-auto-create") {
		cfg.NoAutoCreate = f.noAutoCreate
	}
	if says("data") {
		cfg.DataDir = f.data
		if f.data == "" {
			return cfg, usagef("--data is empty: name the directory of the logs")
		}
	}
	if says("listen") {
		cfg.Listen = f.listen
		if len(f.listen) == 0 {
			return cfg, usagef("--listen is empty: give an address such as 127.0.0.1:9092")
		}
		for _, a := range f.listen {
			if _, _, err := net.SplitHostPort(a); err != nil {
				return cfg, usagef("--listen: %q is not HOST:PORT", a)
			}
		}
	}
	if f.advertise != "" && says("advertise") {
		if _, _, err := net.SplitHostPort(f.advertise); err != nil {
			return cfg, usagef("--advertise: %q is not HOST:PORT", f.advertise)
		}
		if !says("listen") {
			return cfg, usagef("--advertise is about --listen; the property listeners has advertised.listeners")
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
	cfg.LogLevel = &slog.LevelVar{}
	cfg.LogLevel.Set(level)
	o := &slog.HandlerOptions{Level: cfg.LogLevel}
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

func (p process) serve(ctx context.Context, flags *pflag.FlagSet, f *serverFlags) error {
	cfg, err := p.config(flags, f)
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
	if _, err := fmt.Fprintf(p.stdout, "moldau serves at %s (data in %s, durability %s)\n", strings.Join(b.Addrs(), ","), b.Running().DataDir(), cfg.Durability); err != nil {
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
