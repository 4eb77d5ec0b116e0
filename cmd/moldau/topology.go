package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/moldau-stream/moldau/internal/topo"
)

// topologyCommand holds the commands about descriptions of stream-processing programs. They need no server.
func (p process) topologyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topology",
		Short: "Compare descriptions of topologies",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(p.topologyDiff())
	return cmd
}

func (p process) topologyDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say what an upgrade from one topology to another would lose",
		Long: `Say what an application loses, or leaves behind in the cluster, when it is upgraded in place from OLD to NEW: stores and
repartition topics that vanish, change their kind or their partitions, and generated names that shift.

OLD and NEW are files with the text of a topology (Topology.String(), or Topology#describe of Kafka Streams) or with its JSON
(Topology.JSON()), which knows more: kinds and types of stores, demanded partitions. The exit status is 1 if something would
be lost.`,
		Example: `  moldau topology diff released.json next.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("name two files: the old description and the new one")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			var ds [2]*topo.Description
			for i, name := range args {
				text, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				if ds[i], err = topo.ParseDescription(text); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			losses := 0
			for _, d := range topo.Diff(ds[0], ds[1]) {
				fmt.Fprintln(p.stdout, d)
				if d.Severity == topo.Loss {
					losses++
				}
			}
			if losses > 0 {
				return fmt.Errorf("an upgrade from %s to %s loses something: %d differences begin with LOSS", args[0], args[1], losses)
			}
			return nil
		},
	}
}
