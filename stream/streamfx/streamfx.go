// Package streamfx runs a stream application in an fx program.
//
//	fx.New(
//	    fx.Provide(newTopology),                      // *stream.Topology
//	    fx.Supply(stream.Config{AppID: "wordcount", Brokers: brokers}),
//	    streamfx.Module,
//	    fx.Invoke(func(*stream.App) {}),
//	)
//
//	OnStart   returns at once: joining the group and restoring stores can take longer than fx.StartTimeout.
//	Ready     App.Ready, or Health, tells when it runs.
//	OnStop    commits and stops, bounded by Config.StopTimeout and by fx.StopTimeout.
//	failure   the first fatal error shuts the whole program down with exit code 1.
package streamfx

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"github.com/moldau-stream/moldau/stream"
)

// Module provides *stream.App and Health from a *stream.Topology and a stream.Config. A *slog.Logger and a
// prometheus.Registerer are used if the program provides them.
var Module = fx.Module("stream", fx.Provide(New))

// Params are what New takes.
type Params struct {
	fx.In

	Lifecycle  fx.Lifecycle
	Shutdowner fx.Shutdowner
	Topology   *stream.Topology
	Config     stream.Config
	Logger     *slog.Logger          `optional:"true"`
	Registerer prometheus.Registerer `optional:"true"`
}

// Result is what New provides.
type Result struct {
	fx.Out

	App    *stream.App
	Health Health
}

// Health says whether the application works: nil while it is running, else why not.
type Health func(context.Context) error

// New makes the application and ties it to the program's lifecycle.
func New(p Params) (Result, error) {
	if p.Config.Logger == nil {
		p.Config.Logger = p.Logger
	}
	app, err := stream.New(p.Topology, p.Config)
	if err != nil {
		return Result{}, err
	}
	if p.Registerer != nil {
		if err := p.Registerer.Register(app.Collector()); err != nil {
			return Result{}, fmt.Errorf("register the metrics of application %s: %w", p.Config.AppID, err)
		}
	}
	// The context of OnStart ends when the program has started: the application needs one of its own.
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	var result error // of Run; valid after done
	p.Lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() {
				defer close(done)
				result = app.Run(ctx)
				if ctx.Err() == nil { // it ended by itself
					if err := p.Shutdowner.Shutdown(fx.ExitCode(1)); err != nil && p.Config.Logger != nil {
						p.Config.Logger.Error("shut down after a failed application", "error", err)
					}
				}
			}()
			return nil
		},
		OnStop: func(stopCtx context.Context) error {
			stop()
			select {
			case <-done:
				return result
			case <-stopCtx.Done():
				return fmt.Errorf("stop application %s: %w", p.Config.AppID, stopCtx.Err())
			}
		},
	})
	return Result{App: app, Health: func(context.Context) error { return health(app) }}, nil
}

func health(app *stream.App) error {
	if s, reason := app.State(); s != stream.Running {
		if reason != "" {
			return fmt.Errorf("%s: %s", s, reason)
		}
		return fmt.Errorf("%s", s)
	}
	return nil
}
