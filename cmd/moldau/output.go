package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// tell prints rows as a table under header (column names separated by tabs; none without header), or with --json as one JSON
// object a line. cells gives the cells of a row.
func tell[T any](p process, asJSON bool, header string, rows []T, cells func(T) []string) error {
	if asJSON {
		e := json.NewEncoder(p.stdout)
		e.SetEscapeHTML(false)
		for _, r := range rows {
			if err := e.Encode(r); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	if header != "" {
		fmt.Fprintln(w, header)
	}
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(cells(r), "\t"))
	}
	return w.Flush()
}

func jsonFlag(f *pflag.FlagSet, asJSON *bool) {
	f.BoolVar(asJSON, "json", false, "print one JSON object a line in place of a table")
}

// family makes a command that only holds others.
func family(use, short string, c *connection, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return cmd.Help()
		},
	}
	c.register(cmd.PersistentFlags())
	cmd.AddCommand(commands...)
	return cmd
}

// some is the check of a command that needs at least one argument of a kind.
func some(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("name at least one %s", what)
		}
		return nil
	}
}

// one is the check of a command that needs exactly one argument of a kind.
func one(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return usagef("name the %s", what)
		case 1:
			return nil
		}
		return usagef("unexpected argument %q", args[1])
	}
}

// partitionsText shows partitions by topic: a[0 1] b[2].
func partitionsText(topics map[string][]int32) string {
	var parts []string
	for topic, ps := range topics {
		parts = append(parts, fmt.Sprintf("%s%v", topic, ps))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
