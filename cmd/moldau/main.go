// Command moldau runs a Moldau server and talks to any Kafka-compatible cluster from the command line.
//
//	moldau server --listen 127.0.0.1:9092 --data DIR     serve
//	moldau topics list|create|describe|configs|alter|delete
//	moldau groups list|describe|reset-offsets|delete-offsets|delete
//	moldau configs list|describe|set|unset               configurations of topics, brokers, groups, client metrics
//	moldau transactions list|describe|producers|hanging|abort|terminate
//	moldau users list|set|delete                         SCRAM credentials
//	moldau log dump FILE|DIR                             what is in the files of a data directory
//	moldau topology diff OLD NEW                         what an upgrade of a stream program would lose
//	moldau takeover DIR                                  make a log directory of Apache Kafka ours
//	moldau produce -t TOPIC                              write what stdin or files hold
//	moldau consume -t TOPIC --from-beginning             print records
//	moldau version
//
// Each flag can also come from the environment: --sasl-password is MOLDAU_SASL_PASSWORD. A flag wins over the
// variable, the variable over the default. The server takes Kafka's configurations too, by the names that they have there:
// from a file (--config), from variables such as MOLDAU_LOG_RETENTION_MS, from --property log.retention.ms=1000.
//
// Results go to stdout, everything else to stderr. A failure is one line that names the thing and the next step; the
// exit code is 2 for a mistake in the command and 1 for everything else that failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.LookupEnv, environ: os.Environ}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// process is what a command sees of the operating system; tests give their own.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
	environ        func() []string // NAME=VALUE of every variable
}

// run executes one command line and returns the exit code. A cancelled ctx (SIGINT, SIGTERM) ends a command that runs
// until it is told to stop, without error.
func (p process) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if errors.As(err, new(usageError)) || strings.HasPrefix(err.Error(), "unknown command") {
		fmt.Fprintf(p.stderr, "%s: %s; %[1]s --help shows how to use it\n", cmd.CommandPath(), oneLine(err.Error()))
		return 2
	}
	fmt.Fprintf(p.stderr, "%s: %s\n", cmd.CommandPath(), oneLine(err.Error()))
	return 1
}

func (p process) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "moldau",
		Short: "Moldau: a Kafka-compatible server, and tools for every Kafka-compatible cluster",
		Long: "Moldau: a Kafka-compatible server, and tools for every Kafka-compatible cluster.\n\n" +
			"Each flag can also be set by an environment variable: --sasl-password by MOLDAU_SASL_PASSWORD.",
		SilenceUsage:       true,
		SilenceErrors:      true,
		DisableSuggestions: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return p.applyEnv(cmd.Flags())
		},
	}
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(p.versionCommand(), p.serverCommand(), p.topicsCommand(), p.configsCommand(),
		p.groupsCommand(), p.transactionsCommand(), p.usersCommand(), p.logCommand(), p.topologyCommand(), p.takeover(), p.produceCommand(), p.consumeCommand())
	return root
}

// usageError is a mistake in the command line or in a MOLDAU_ variable.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// applyEnv sets each flag that the command line leaves out from its environment variable. An empty variable counts as
// not set.
func (p process) applyEnv(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := envName(f.Name)
		v, ok := p.env(name)
		if f.Changed || !ok || v == "" || f.Name == "help" {
			return
		}
		if err := flags.Set(f.Name, v); err != nil {
			errs = append(errs, usagef("environment variable %s: %q is not a valid value for --%s (%s)", name, v, f.Name, f.Usage))
			return
		}
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		f.Annotations[envAnnotation] = []string{name}
	})
	return errors.Join(errs...)
}

// envPrefix begins the names of variables; envAnnotation marks flags that came from one.
const (
	envPrefix     = "MOLDAU_"
	envAnnotation = "environment"
)

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// noArgs refuses arguments, naming the first; cobra's own check names neither the command's use nor a next step.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// oneLine keeps an error on one line: errors that were joined are separated by semicolons.
func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}
