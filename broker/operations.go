package broker

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Collector gives the broker's metrics, to be registered by the program. Names are those that Apache Kafka's metrics have behind the
// stock rules of Prometheus' JMX exporter (kafka_server_brokertopicmetrics_bytesin_total and so on).
func (b *Broker) Collector() prometheus.Collector { return b.server.Collector() }

// LagCollector gives offsets and lag of topics and consumer groups under the names of kafka_exporter (kafka_consumergroup_lag and so
// on). A scrape costs a look at every committed offset.
func (b *Broker) LagCollector() prometheus.Collector { return b.server.LagCollector() }

// Handler serves what operators look at:
//
//	/metrics                   Collector, and those of the Go runtime and the process
//	/metrics/kafka_exporter    LagCollector
//	/health                    200 while the broker runs, 503 with the reason once its storage failed or it was closed
//	/ready                     200 while it serves clients
func (b *Broker) Handler() http.Handler {
	mux := http.NewServeMux()
	registry := prometheus.NewRegistry()
	registry.MustRegister(b.Collector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	lag := prometheus.NewRegistry()
	lag.MustRegister(b.LagCollector())
	mux.Handle("/metrics/kafka_exporter", promhttp.HandlerFor(lag, promhttp.HandlerOpts{}))
	state := func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-b.Done():
			http.Error(w, fmt.Sprintf("stopped: %v", b.Err()), http.StatusServiceUnavailable)
			return
		default:
		}
		select {
		case <-b.Ready():
			_, _ = fmt.Fprintln(w, "ok") // the client is gone if it fails
		default:
			http.Error(w, "starting", http.StatusServiceUnavailable)
		}
	}
	mux.HandleFunc("/health", state)
	mux.HandleFunc("/ready", state)
	return mux
}
