package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/moldau-stream/moldau/broker/logdump"
)

// logCommand holds the commands that read the files of a data directory. They need no server.
func (p process) logCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look into the files of a data directory",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(p.logDump())
	return cmd
}

func (p process) logDump() *cobra.Command {
	var o logdump.Options
	var decode string
	cmd := &cobra.Command{
		Use:   "dump FILE|DIR",
		Short: "Print batches, records, indexes, snapshots and checkpoints",
		Long: `Print what is in the files of a log: batches, the entries of the indexes, producer snapshots and checkpoints. DIR is the
directory of a partition, or a whole data directory. Indexes are checked against the segment that they belong to.

Damage is reported where it is found, and the exit status is 1. It is safe to run beside a server, although the end of
an active segment can look unfinished then.`,
		Example: `  moldau log dump /var/lib/moldau/orders-0
  moldau log dump --records /var/lib/moldau/orders-0/00000000000000000000.log
  moldau log dump --records --decode /var/lib/moldau/__consumer_offsets-0
  moldau log dump --check /var/lib/moldau`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one file or directory")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			o.Decode = logdump.Decode(decode)
			if decode != "" {
				o.Records = true
				known := false
				for _, d := range logdump.Decodes() {
					known = known || d == decode
				}
				if !known {
					return usagef("--decode %q: it is one of %s", decode, strings.Join(logdump.Decodes(), ", "))
				}
			}
			return logdump.Dump(p.stdout, args[0], o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Records, "records", false, "print the records of each batch")
	f.StringVar(&decode, "decode", "", "print the records of internal topics in words: "+strings.Join(logdump.Decodes(), ", "))
	f.Lookup("decode").NoOptDefVal = string(logdump.DecodeByTopic)
	f.BoolVar(&o.Check, "check", false, "print one line a file, and what is wrong")
	return cmd
}
