package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Tools set these on brokers that have nothing to do with Kerberos, and Kafka lets them.
func TestConfigurationsOfKerberosChangeOnARunningBroker(t *testing.T) {
	v, err := New(nil)
	require.NoError(t, err)
	require.NoError(t, v.CheckDynamic(map[string]string{"sasl.kerberos.min.time.before.relogin": "58000"}, true))
	require.Error(t, v.CheckDynamic(map[string]string{"sasl.enabled.mechanisms": "PLAIN"}, true))
}
