package broker_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

func get(t *testing.T, b *broker.Broker, path string) (status int, body string) {
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	all, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return w.Code, string(all)
}

// scrape gives the samples of a page: name and labels, and value.
func scrape(t *testing.T, b *broker.Broker, path string) map[string]string {
	status, body := get(t, b, path)
	require.Equal(t, http.StatusOK, status, body)
	samples := map[string]string{}
	for line := range strings.Lines(body) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			samples[name] = value
		}
	}
	return samples
}

func TestMetricsHaveTheNamesThatDashboardsRead(t *testing.T) {
	b := brokertest.New(t).Broker
	cl := client(t, b, kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("a"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AllowAutoTopicCreation(), kgo.DisableAutoCommit(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	for range 3 {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "a", Value: []byte("value")}).FirstErr())
	}
	seen := 0
	for seen < 3 {
		f := cl.PollFetches(t.Context())
		require.NoError(t, f.Err())
		seen += f.NumRecords()
	}
	require.NoError(t, cl.CommitUncommittedOffsets(t.Context()))

	m := scrape(t, b, "/metrics")
	require.Equal(t, "1", m["kafka_controller_kafkacontroller_activecontrollercount"])
	require.Equal(t, "0", m["kafka_controller_kafkacontroller_offlinepartitionscount"])
	require.Equal(t, "0", m["kafka_server_replicamanager_underreplicatedpartitions"])
	require.Equal(t, "3", m[`kafka_server_brokertopicmetrics_messagesin_total`])
	require.Equal(t, "3", m[`kafka_server_brokertopicmetrics_messagesin_total{topic="a"}`])
	require.Equal(t, m[`kafka_server_brokertopicmetrics_bytesin_total{topic="a"}`], m[`kafka_log_log_size{partition="0",topic="a"}`])
	require.NotEqual(t, "0", m[`kafka_server_brokertopicmetrics_bytesout_total{topic="a"}`])
	require.Equal(t, "3", m[`kafka_log_log_logendoffset{partition="0",topic="a"}`])
	require.Equal(t, "1", m[`kafka_server_group_coordinator_metrics_group_count{protocol="classic",state="stable"}`])
	require.Contains(t, m, `kafka_network_requestmetrics_totaltimems{quantile="0.99",request="Produce"}`)
	require.Contains(t, m, `kafka_network_requestmetrics_totaltimems_count{request="FetchConsumer"}`)
	require.Contains(t, m, "process_resident_memory_bytes")
	for name := range m {
		require.Regexp(t, regexp.MustCompile(`^[a-z_:][a-zA-Z0-9_:]*(\{.*\})?$`), name)
	}

	lag := scrape(t, b, "/metrics/kafka_exporter")
	require.Equal(t, "3", lag[`kafka_topic_partition_current_offset{partition="0",topic="a"}`])
	require.Equal(t, "3", lag[`kafka_consumergroup_current_offset{consumergroup="readers",partition="0",topic="a"}`])
	require.Equal(t, "0", lag[`kafka_consumergroup_lag_sum{consumergroup="readers",topic="a"}`])
}

func TestHealthTellsThatTheBrokerStopped(t *testing.T) {
	b := brokertest.New(t).Broker
	for _, path := range []string{"/health", "/ready"} {
		status, body := get(t, b, path)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "ok\n", body)
	}
	require.NoError(t, b.Close())
	status, body := get(t, b, "/health")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "stopped: the broker is closed")
}
