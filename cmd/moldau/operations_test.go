package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/brokertest"
)

func TestOperationsAreServedUntilTheyAreStopped(t *testing.T) {
	b := brokertest.New(t)
	at, stop, err := serveOperations(t.Context(), "127.0.0.1:0", b.Handler(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for path, says := range map[string]string{"/ready": "ok", "/health": "ok", "/metrics": "kafka_controller_kafkacontroller_activecontrollercount 1"} {
		resp, err := http.Get("http://" + at + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Contains(t, string(body), says)
	}
	http.DefaultClient.CloseIdleConnections()
	require.NoError(t, stop(t.Context()))
	_, err = net.Dial("tcp", at)
	require.Error(t, err)
}

func TestAnAddressInUseForOperationsIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	r := moldau(t, "", nil, "server", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--http", l.Addr().String())
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "--http "+l.Addr().String())
}
