package config

// metricsConfigs are the configurations of client metrics subscriptions (KIP-714).
func metricsConfigs() []Def {
	return []Def{
		{"interval.ms", Int, "300000", nil, 0,
			"Milliseconds between two pushes of metrics by a client. " + noTelemetry},
		{"match", List, "", listOf(true), 0,
			"Clients that the subscription is for, ATTRIBUTE=PATTERN separated by commas. " + noTelemetry},
		{"metrics", List, "", listOf(true), 0,
			"Prefixes of the names of the metrics to push. " + noTelemetry},
	}
}
