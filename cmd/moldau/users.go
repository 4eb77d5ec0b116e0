package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func (p process) usersCommand() *cobra.Command {
	var c connection
	return family("users", "List, set and delete the SCRAM credentials of users", &c, p.usersList(&c), p.usersSet(&c), p.usersDelete(&c))
}

// userRow is one credential.
type userRow struct {
	User       string `json:"user"`
	Mechanism  string `json:"mechanism"`
	Iterations int32  `json:"iterations"`
}

func (p process) usersList(c *connection) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print users with their mechanisms; passwords are not stored",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withAdmin(cmd, c, func(ctx context.Context, admin *kadm.Client) error {
				users, err := admin.DescribeUserSCRAMs(ctx)
				if err != nil {
					return fmt.Errorf("list users: %w", err)
				}
				var rows []userRow
				for _, u := range users.Sorted() {
					for _, cred := range u.CredInfos {
						rows = append(rows, userRow{u.User, cred.Mechanism.String(), cred.Iterations})
					}
				}
				return tell(p, asJSON, "USER\tMECHANISM\tITERATIONS", rows, func(u userRow) []string {
					return []string{u.User, u.Mechanism, fmt.Sprint(u.Iterations)}
				})
			})
		},
	}
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

func scramMechanism(name string) (kadm.ScramMechanism, error) {
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		if strings.EqualFold(m.String(), name) {
			return m, nil
		}
	}
	return 0, usagef("--mechanism %q is not SCRAM-SHA-256 or SCRAM-SHA-512", name)
}

func (p process) usersSet(c *connection) *cobra.Command {
	var (
		mechanism  string
		iterations int32
	)
	cmd := &cobra.Command{
		Use:   "set USER",
		Short: "Give a user the password that is the first line of stdin",
		Args:  one("user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := scramMechanism(mechanism)
			if err != nil {
				return err
			}
			line, err := bufio.NewReader(io.LimitReader(p.stdin, 64<<10)).ReadString('\n')
			if err != nil && err != io.EOF {
				return fmt.Errorf("read the password from stdin: %w", err)
			}
			password := strings.TrimRight(line, "\r\n")
			if password == "" {
				return usagef("stdin has no password in its first line")
			}
			return p.withAdmin(cmd, c, func(ctx context.Context, admin *kadm.Client) error {
				upsert := kadm.UpsertSCRAM{User: args[0], Mechanism: m, Iterations: iterations, Password: password}
				results, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{upsert})
				if err != nil {
					return fmt.Errorf("set user %s: %w", args[0], err)
				}
				if r := results[args[0]]; r.Err != nil {
					return fmt.Errorf("set user %s: %w%s", args[0], r.Err, detail(r.ErrMessage))
				}
				_, err = fmt.Fprintf(p.stdout, "set %s for %s\n", args[0], m)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&mechanism, "mechanism", "SCRAM-SHA-256", "SCRAM-SHA-256 or SCRAM-SHA-512; a user can have both")
	cmd.Flags().Int32Var(&iterations, "iterations", 8192, "rounds of the password's hash, from 4096 to 16384")
	return cmd
}

func (p process) usersDelete(c *connection) *cobra.Command {
	var mechanism string
	cmd := &cobra.Command{
		Use:   "delete USER",
		Short: "Delete the credentials of a user",
		Args:  one("user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := scramMechanism(mechanism)
			if err != nil {
				return err
			}
			return p.withAdmin(cmd, c, func(ctx context.Context, admin *kadm.Client) error {
				results, err := admin.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: args[0], Mechanism: m}}, nil)
				if err != nil {
					return fmt.Errorf("delete user %s: %w", args[0], err)
				}
				switch r := results[args[0]]; {
				case errors.Is(r.Err, kerr.ResourceNotFound):
					return fmt.Errorf("user %s has no credential for %s; `moldau users list` shows what is there", args[0], m)
				case r.Err != nil:
					return fmt.Errorf("delete user %s: %w%s", args[0], r.Err, detail(r.ErrMessage))
				}
				_, err = fmt.Fprintf(p.stdout, "deleted %s for %s\n", args[0], m)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&mechanism, "mechanism", "SCRAM-SHA-256", "SCRAM-SHA-256 or SCRAM-SHA-512")
	return cmd
}
