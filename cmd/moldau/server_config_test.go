package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker"
)

// configured gives the configuration of `moldau server` with the arguments, and its environment.
func configured(t *testing.T, env environment, args ...string) (broker.Config, error) {
	t.Helper()
	p := process{stdin: strings.NewReader(""), stdout: t.Output(), stderr: t.Output(),
		env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		environ: func() []string {
			var all []string
			for _, name := range slices.Sorted(maps.Keys(env)) {
				all = append(all, name+"="+env[name])
			}
			return all
		},
	}
	var f serverFlags
	cmd := p.serverCommandWith(&f)
	require.NoError(t, cmd.ParseFlags(args))
	require.NoError(t, p.applyEnv(cmd.Flags()))
	return p.config(cmd.Flags(), &f)
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestServerWithoutSettings(t *testing.T) {
	cfg, err := configured(t, nil)
	require.NoError(t, err)
	require.Empty(t, cfg.Properties)
	require.Equal(t, []string{"127.0.0.1:9092"}, cfg.Listen)
	require.Equal(t, "moldau-data", cfg.DataDir)
	require.EqualValues(t, 1, cfg.NodeID)
}

// Node 0 is an id like others, which many of Kafka's clusters begin with.
func TestServerCanBeNodeZero(t *testing.T) {
	cfg, err := configured(t, environment{"MOLDAU_NODE_ID": "7"}, "--node-id", "0")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"node.id": "0"}, cfg.Properties)
	_, err = configured(t, nil, "--node-id", "0", "-p", "broker.id=7")
	require.ErrorContains(t, err, "set one of them")
}

func TestServerReadsYAML(t *testing.T) {
	path := file(t, "server.yaml", `
# nested names are joined
log:
  retention:
    ms: 1000
  dirs: /var/lib/x
log.segment.bytes: 2097152
node.id: 7
listeners:
  - PLAINTEXT://127.0.0.1:0
  - EXTERNAL://:9095
auto.create.topics.enable: false
moldau:
  durability: page-cache
  log-level: debug
`)
	cfg, err := configured(t, nil, "--config", path)
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"log.retention.ms": "1000", "log.dirs": "/var/lib/x", "log.segment.bytes": "2097152", "node.id": "7",
		"listeners": "PLAINTEXT://127.0.0.1:0,EXTERNAL://:9095", "auto.create.topics.enable": "false",
	}, cfg.Properties)
	require.Empty(t, cfg.DataDir, "the property says it")
	require.Empty(t, cfg.Listen)
	require.Zero(t, cfg.NodeID)
	require.Equal(t, broker.PageCache, cfg.Durability)
}

func TestServerReadsKafkasProperties(t *testing.T) {
	path := file(t, "server.properties", "# Kafka's own\r\n! comment\r\nlog.retention.hours=24\nmessage.max.bytes : 2000000\nnum.partitions 3\n"+
		"sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\\n   user_a=\"b\\\\c\\u0041\";\nlog.dirs=/a\\:b\n")
	cfg, err := configured(t, nil, "--config", path)
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"log.retention.hours": "24", "message.max.bytes": "2000000", "num.partitions": "3", "log.dirs": "/a:b",
		"sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required user_a="b\cA";`,
	}, cfg.Properties)
}

func TestFlagsWinOverVariablesOverTheFile(t *testing.T) {
	path := file(t, "s.yaml", "num.partitions: 2\nlog.retention.ms: 2\nlog.dirs: /file\nmoldau.durability: page-cache\n")
	cfg, err := configured(t, environment{"MOLDAU_LOG_RETENTION_MS": "3", "MOLDAU_NUM_PARTITIONS": "3", "MOLDAU_DATA": "/env", "MOLDAU_DURABILITY": "sync", "MOLDAU_BROKERS": "x:1"},
		"--config", path, "--property", "num.partitions=4")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"log.retention.ms": "3", "num.partitions": "4"}, cfg.Properties)
	require.Equal(t, "/env", cfg.DataDir, "a variable wins over a file, whatever its name")
	require.Equal(t, broker.Sync, cfg.Durability)
	require.Zero(t, cfg.DefaultPartitions)

	cfg, err = configured(t, environment{"MOLDAU_NUM_PARTITIONS": "3"}, "--default-partitions", "5")
	require.NoError(t, err)
	require.Empty(t, cfg.Properties)
	require.EqualValues(t, 5, cfg.DefaultPartitions)

	cfg, err = configured(t, environment{"MOLDAU_DATA": "/env"}, "--property", "log.dirs=/flag")
	require.NoError(t, err)
	require.Equal(t, "/flag", cfg.Properties["log.dirs"])
	require.Empty(t, cfg.DataDir)

	cfg, err = configured(t, environment{"MOLDAU_LISTENER_NAME_EXTERNAL_SSL_KEYSTORE_LOCATION": "/pem", "MOLDAU_NODE_ID": "4"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"listener.name.external.ssl.keystore.location": "/pem"}, cfg.Properties)
	require.EqualValues(t, 4, cfg.NodeID)
}

func TestMistakesInSettingsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		env  environment
		file string
		args []string
		want []string
	}{
		"unknown in a file":     {file: "a: 1\nlog.retention.hour: 5\n", want: []string{"s.yaml line 2", "log.retention.hour", "did you mean log.retention.hours?"}},
		"unknown variable":      {env: environment{"MOLDAU_LOG_RETENTIONS_MS": "5"}, want: []string{"environment variable MOLDAU_LOG_RETENTIONS_MS", "did you mean log.retention.ms?"}},
		"unknown property":      {args: []string{"--property", "num.partition=5"}, want: []string{"--property", "did you mean num.partitions?"}},
		"value":                 {file: "num.partitions: many\n", want: []string{"s.yaml line 1", "Invalid value many for configuration num.partitions"}},
		"twice":                 {file: "log.retention.ms: 1\nlog:\n  retention.ms: 2\n", want: []string{"s.yaml line 3", "log.retention.ms is set before, at", "line 1"}},
		"no value":              {file: "num.partitions:\n", want: []string{"s.yaml line 1", "num.partitions has no value"}},
		"nested list":           {file: "listeners: [[a]]\n", want: []string{"s.yaml line 1", "plain values"}},
		"not a map":             {file: "- a\n", want: []string{"a map from names to values"}},
		"not YAML":              {file: "a: [\n", want: []string{"s.yaml"}},
		"unknown flag in file":  {file: "moldau.nope: 1\n", want: []string{"s.yaml line 1", "no such flag"}},
		"flag's value in file":  {file: "moldau.stop-timeout: soon\n", want: []string{"s.yaml line 1", "soon"}},
		"property without =":    {args: []string{"--property", "x"}, want: []string{`"x" is not NAME=VALUE`}},
		"file is missing":       {args: []string{"--config", "/no/such/file"}, want: []string{"/no/such/file"}},
		"advertise":             {file: "listeners: PLAINTEXT://:1\n", args: []string{"--advertise", "a:1"}, want: []string{"advertised.listeners"}},
		"super users in a file": {file: "super.users: User:a\n", want: []string{"super.users", "no authorizer"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := c.args
			if c.file != "" {
				args = append(args, "--config", file(t, "s.yaml", c.file))
			}
			_, err := configured(t, c.env, args...)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.NotErrorIs(t, err, os.ErrPermission)
		})
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("a.b=c\\\n d\n", true)
	f.Add("a:\n  b: [c, d]\n", false)
	f.Fuzz(func(t *testing.T, text string, properties bool) {
		read := map[string]setting{}
		if properties {
			_ = parseProperties("f", text, read) // must end, without a panic
		} else {
			_ = parseYAML("f", []byte(text), read)
		}
	})
}
