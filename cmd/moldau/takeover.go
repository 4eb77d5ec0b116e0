package main

import (
	"fmt"
	"log/slog"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/moldau-stream/moldau/broker/takeover"
)

func (p process) takeover() *cobra.Command {
	var o takeover.Options
	cmd := &cobra.Command{
		Use:   "takeover DIR",
		Short: "Turn a log directory of Apache Kafka into one of Moldau",
		Long: `Turn the log directory (log.dirs) of an Apache Kafka 4 node into a data directory of Moldau, in place. Topics keep their ids,
configurations, records and offsets, producers their states, groups their offsets, transactions theirs, users their SCRAM
credentials and quotas. The segments are not rewritten.

The node must be stopped, be the only replica of its partitions, and have one log directory. Kafka's metadata log is kept
as kafka-metadata in the directory. A run that was interrupted can be repeated. Take a copy first if you may want to go back.`,
		Example: `  moldau takeover --dry-run /var/lib/kafka/data
  moldau takeover --verify /var/lib/kafka/data
  moldau server --data /var/lib/kafka/data --listen 127.0.0.1:9092`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Logger = slog.New(slog.NewTextHandler(p.stderr, nil))
			r, err := takeover.Run(args[0], o)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TOPIC\tPARTITIONS\tOFFSETS\tBYTES")
			for _, t := range r.Topics {
				offsets := fmt.Sprint(t.Offsets)
				if o.DryRun {
					offsets = "-"
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t%d\n", t.Name, t.Partitions, offsets, t.Bytes)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			end := "Kafka closed it properly"
			if !r.Clean {
				end = "Kafka did not close it: its logs are recovered"
			}
			what := "taken over"
			if o.DryRun {
				what = "can be taken over"
			}
			fmt.Fprintf(p.stderr, "%s: cluster %s, node %d, %s; %s\n", args[0], r.ClusterID, r.NodeID, what, end)
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "look, and change nothing")
	cmd.Flags().BoolVar(&o.Verify, "verify", false, "read every record and check its checksum")
	return cmd
}
