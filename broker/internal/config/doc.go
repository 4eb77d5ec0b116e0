// Package config knows every configuration of Apache Kafka 4.3.1: of brokers, topics, groups and client metrics subscriptions.
//
// A broker's value of a configuration is the first of these that is set, and each has a name in the protocol:
//
//	                                        source              lives in
//	   per-broker dynamic                   DYNAMIC_BROKER      metadata log, resource broker "1"
//	      cluster-wide dynamic              DYNAMIC_DEFAULT_..  metadata log, resource broker ""
//	         static                         STATIC_BROKER       flags, environment, files, broker.Config
//	            default                     DEFAULT             this package
//
//	topic's own value  -->  broker's value of its synonyms (retention.ms: log.retention.ms, .minutes, .hours)  -->  default
//	group's own value  -->  broker's value of its synonym  (consumer.session.timeout.ms: group.consumer.session.timeout.ms)
//
// Values is an immutable snapshot of the first ladder; Topic and Group are the other two on top of it.
//
// Invariants:
//   - What is in a Values was checked: a getter never fails but for a name or a type that is not defined, which is a bug.
//   - A value is refused for the same reasons, with the same words, as in Kafka (testdata/kafka-4.3.1.tsv).
package config
