package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
)

func TestLogDump(t *testing.T) {
	dir := t.TempDir()
	b, err := broker.Start(t.Context(), broker.Config{DataDir: dir, Listen: []string{"127.0.0.1:0"}})
	require.NoError(t, err)
	cl := client(t, b, kgo.AllowAutoTopicCreation())
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Key: []byte("a"), Value: []byte("1")},
		&kgo.Record{Topic: "orders", Value: []byte("2")}).FirstErr())
	cl.Close()
	require.NoError(t, b.Close())

	r := moldau(t, "", nil, "log", "dump", dir, "--records")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, `key "a" value "1"`)
	require.Contains(t, r.stdout, `key null value "2"`)
	require.Contains(t, r.stdout, "orders-0 2\n", "a checkpoint")
	require.NotContains(t, r.stdout, "TopicRecord")

	r = moldau(t, "", nil, "log", "dump", "--decode", dir)
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, `TopicRecord {"Name":"orders"`)

	file := filepath.Join(dir, "orders-0", "00000000000000000000.log")
	p, err := os.ReadFile(file)
	require.NoError(t, err)
	p[len(p)-1] ^= 1
	require.NoError(t, os.WriteFile(file, p, 0o600))
	r = moldau(t, "", nil, "log", "dump", "--check", dir)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stdout, "PROBLEM "+file)
	require.Contains(t, r.stderr, "moldau log dump: ")
	require.Contains(t, r.stderr, "CRC-32C")

	for _, args := range [][]string{{"log", "dump"}, {"log", "dump", "a", "b"}, {"log", "frobnicate"}, {"log", "dump", "--decode=x", dir}} {
		require.Equal(t, 2, moldau(t, "", nil, args...).code, args)
	}
	require.Equal(t, 1, moldau(t, "", nil, "log", "dump", filepath.Join(dir, "missing")).code)
	require.Equal(t, 1, moldau(t, "", nil, "log", "dump", filepath.Join(dir, "meta.properties")).code)
}
