package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const resourceForms = "topic/NAME, broker/ID, brokers (the default of all), broker-logger/ID, group/NAME or client-metrics/NAME"

// resource is what a configuration belongs to.
type resource struct {
	kind kmsg.ConfigResourceType
	name string
	text string // as the user writes it
}

var resourceKinds = []struct {
	word string
	kind kmsg.ConfigResourceType
}{
	{"topic", kmsg.ConfigResourceTypeTopic},
	{"broker", kmsg.ConfigResourceTypeBroker},
	{"broker-logger", kmsg.ConfigResourceTypeBrokerLogger},
	{"group", kmsg.ConfigResourceTypeGroupConfig},
	{"client-metrics", kmsg.ConfigResourceTypeClientMetrics},
}

func parseResource(text string) (resource, error) {
	if text == "brokers" {
		return resource{kmsg.ConfigResourceTypeBroker, "", text}, nil
	}
	word, name, _ := strings.Cut(text, "/")
	for _, k := range resourceKinds {
		if k.word == word && name != "" {
			return resource{k.kind, name, text}, nil
		}
	}
	return resource{}, usagef("%q is not %s", text, resourceForms)
}

func (p process) configsCommand() *cobra.Command {
	var c connection
	cmd := family("configs", "Show and change configurations of topics, brokers, groups and client metrics", &c,
		p.configsList(&c), p.configsDescribe(&c), p.configsSet(&c), p.configsUnset(&c))
	cmd.Long = `Show and change configurations. A resource is ` + resourceForms + `.

  moldau configs describe topic/events
  moldau configs set topic/events retention.ms=86400000 cleanup.policy=compact,delete
  moldau configs unset brokers log.retention.ms`
	return cmd
}

// configRow is one configuration as it is printed.
type configRow struct {
	Resource  string  `json:"resource"`
	Name      string  `json:"name"`
	Value     *string `json:"value"`
	Source    string  `json:"source"`
	ReadOnly  bool    `json:"read_only"`
	Sensitive bool    `json:"sensitive,omitempty"`
	Doc       string  `json:"documentation,omitempty"`
}

func (r configRow) cells() []string {
	value := "null"
	switch {
	case r.Sensitive:
		value = "(hidden)"
	case r.Value != nil:
		value = *r.Value
	}
	return []string{r.Name, value, r.Source}
}

// sourceWord says where a value comes from, in words.
func sourceWord(s kmsg.ConfigSource) string {
	switch s {
	case kmsg.ConfigSourceDynamicTopicConfig:
		return "topic"
	case kmsg.ConfigSourceDynamicBrokerConfig:
		return "broker"
	case kmsg.ConfigSourceDynamicDefaultBrokerConfig:
		return "brokers"
	case kmsg.ConfigSourceStaticBrokerConfig:
		return "file"
	case kmsg.ConfigSourceDefaultConfig:
		return "default"
	case kmsg.ConfigSourceDynamicBrokerLoggerConfig:
		return "broker-logger"
	case kmsg.ConfigSourceClientMetricsConfig:
		return "client-metrics"
	case kmsg.ConfigSourceGroupConfig:
		return "group"
	}
	return fmt.Sprintf("source-%d", s)
}

func (p process) configsDescribe(c *connection) *cobra.Command {
	var all, asJSON, docs bool
	cmd := &cobra.Command{
		Use:   "describe RESOURCE...",
		Short: "Print what was set for a resource; with --all, the defaults too",
		Args:  some("resource, one of " + resourceForms),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.describeResources(cmd, c, args, all, docs, asJSON)
		},
	}
	describeFlags(cmd, &all, &docs, &asJSON)
	return cmd
}

func describeFlags(cmd *cobra.Command, all, docs, asJSON *bool) {
	cmd.Flags().BoolVarP(all, "all", "a", false, "print defaults too")
	cmd.Flags().BoolVar(docs, "docs", false, "print what each configuration means")
	jsonFlag(cmd.Flags(), asJSON)
}

func (p process) describeResources(cmd *cobra.Command, c *connection, args []string, all, docs, asJSON bool) error {
	resources, err := parseResources(args)
	if err != nil {
		return err
	}
	return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
		for i, r := range resources {
			rows, err := describeResource(ctx, client, r, all, docs)
			if err != nil {
				return err
			}
			if !asJSON && len(resources) > 1 {
				if i > 0 {
					fmt.Fprintln(p.stdout)
				}
				fmt.Fprintln(p.stdout, r.text)
			}
			header := "NAME\tVALUE\tFROM"
			if docs {
				header += "\tMEANING"
			}
			err = tell(p, asJSON, header, rows, func(row configRow) []string {
				if docs {
					return append(row.cells(), row.Doc)
				}
				return row.cells()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func parseResources(args []string) ([]resource, error) {
	var out []resource
	for _, a := range args {
		r, err := parseResource(a)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// describeResource asks for the configurations of one resource, by name.
func describeResource(ctx context.Context, client *kgo.Client, r resource, all, docs bool) ([]configRow, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeDocumentation = docs
	asked := kmsg.NewDescribeConfigsRequestResource()
	asked.ResourceType, asked.ResourceName = r.kind, r.name
	req.Resources = append(req.Resources, asked)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("describe the configuration of %s: %w", r.text, err)
	}
	if len(resp.Resources) != 1 {
		return nil, fmt.Errorf("describe the configuration of %s: the broker answered for %d resources", r.text, len(resp.Resources))
	}
	got := resp.Resources[0]
	if err := resourceError(r, "describe", got.ErrorCode, got.ErrorMessage); err != nil {
		return nil, err
	}
	var rows []configRow
	for _, k := range got.Configs {
		own := k.Source != kmsg.ConfigSourceDefaultConfig && (r.kind != kmsg.ConfigResourceTypeTopic || k.Source == kmsg.ConfigSourceDynamicTopicConfig)
		if !all && !own {
			continue
		}
		row := configRow{Resource: r.text, Name: k.Name, Value: k.Value, Source: sourceWord(k.Source), ReadOnly: k.ReadOnly, Sensitive: k.IsSensitive}
		if k.Documentation != nil {
			row.Doc = *k.Documentation
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b configRow) int { return cmp.Compare(a.Name, b.Name) })
	return rows, nil
}

func resourceError(r resource, verb string, code int16, message *string) error {
	if code == 0 {
		return nil
	}
	text := ""
	if message != nil {
		text = detail(*message)
	}
	return fmt.Errorf("%s the configuration of %s: %w%s", verb, r.text, kerr.ErrorForCode(code), text)
}

func (p process) configsList(c *connection) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print the resources that can be described: topics, brokers, and groups and client metrics with something set",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
				resp, err := kmsg.NewPtrListConfigResourcesRequest().RequestWith(ctx, client)
				if err == nil {
					err = kerr.ErrorForCode(resp.ErrorCode)
				}
				if err != nil {
					return fmt.Errorf("list resources: %w", err)
				}
				type row struct {
					Resource string `json:"resource"`
				}
				var rows []row
				for _, got := range resp.ConfigResources {
					for _, k := range resourceKinds {
						if int8(k.kind) == int8(got.Type) {
							rows = append(rows, row{k.word + "/" + got.Name})
						}
					}
				}
				slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.Resource, b.Resource) })
				return tell(p, asJSON, "", rows, func(r row) []string { return []string{r.Resource} })
			})
		},
	}
	jsonFlag(cmd.Flags(), &asJSON)
	return cmd
}

func (p process) configsSet(c *connection) *cobra.Command {
	var add, subtract, dry bool
	cmd := &cobra.Command{
		Use:   "set RESOURCE NAME=VALUE...",
		Short: "Set configurations; with --append or --subtract, change lists",
		Args:  some("resource and one NAME=VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			op := kmsg.IncrementalAlterConfigOpSet
			switch {
			case add && subtract:
				return usagef("--append and --subtract exclude each other")
			case add:
				op = kmsg.IncrementalAlterConfigOpAppend
			case subtract:
				op = kmsg.IncrementalAlterConfigOpSubtract
			}
			r, err := parseResource(args[0])
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return usagef("give at least one NAME=VALUE to set for %s", args[0])
			}
			changes, err := assignments(args[1:], op)
			if err != nil {
				return err
			}
			return p.alterResource(cmd, c, r, changes, dry)
		},
	}
	cmd.Flags().BoolVar(&add, "append", false, "add VALUE to a list")
	cmd.Flags().BoolVar(&subtract, "subtract", false, "take VALUE out of a list")
	dryRunFlag(cmd, &dry)
	return cmd
}

func dryRunFlag(cmd *cobra.Command, dry *bool) {
	cmd.Flags().BoolVarP(dry, "dry-run", "n", false, "only have the cluster check it")
}

// assignments makes changes of NAME=VALUE arguments.
func assignments(pairs []string, op kmsg.IncrementalAlterConfigOp) ([]kmsg.IncrementalAlterConfigsRequestResourceConfig, error) {
	var out []kmsg.IncrementalAlterConfigsRequestResourceConfig
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, usagef("%q is not NAME=VALUE", pair)
		}
		k := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		k.Name, k.Op, k.Value = name, op, &value
		out = append(out, k)
	}
	return out, nil
}

// removals makes changes that give names their defaults back.
func removals(names []string) []kmsg.IncrementalAlterConfigsRequestResourceConfig {
	var out []kmsg.IncrementalAlterConfigsRequestResourceConfig
	for _, name := range names {
		k := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		k.Name, k.Op = name, kmsg.IncrementalAlterConfigOpDelete
		out = append(out, k)
	}
	return out
}

func (p process) configsUnset(c *connection) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "unset RESOURCE NAME...",
		Short: "Give configurations their defaults back",
		Args:  some("resource and one NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := parseResource(args[0])
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return usagef("name at least one configuration of %s", args[0])
			}
			return p.alterResource(cmd, c, r, removals(args[1:]), dry)
		},
	}
	dryRunFlag(cmd, &dry)
	return cmd
}

func (p process) alterResource(cmd *cobra.Command, c *connection, r resource, changes []kmsg.IncrementalAlterConfigsRequestResourceConfig, dry bool) error {
	return p.withClient(cmd, c, func(ctx context.Context, client *kgo.Client) error {
		if err := alterResource(ctx, client, r, changes, dry); err != nil {
			return err
		}
		done := "changed"
		if dry {
			done = "would change"
		}
		_, err := fmt.Fprintf(p.stdout, "%s %s\n", done, r.text)
		return err
	})
}

func alterResource(ctx context.Context, client *kgo.Client, r resource, changes []kmsg.IncrementalAlterConfigsRequestResourceConfig, dry bool) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = dry
	asked := kmsg.NewIncrementalAlterConfigsRequestResource()
	asked.ResourceType, asked.ResourceName, asked.Configs = r.kind, r.name, changes
	req.Resources = append(req.Resources, asked)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("change the configuration of %s: %w", r.text, err)
	}
	var errs []error
	for _, got := range resp.Resources {
		errs = append(errs, resourceError(r, "change", got.ErrorCode, got.ErrorMessage))
	}
	return errors.Join(errs...)
}
