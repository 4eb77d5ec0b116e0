package broker_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

func withProperties(properties map[string]string) brokertest.Option {
	return brokertest.With(func(c *broker.Config) { c.Properties = properties })
}

// configValue is one described configuration.
func configValue(t *testing.T, all kadm.ResourceConfigs, resource, name string) kadm.Config {
	t.Helper()
	rc, err := all.On(resource, nil)
	require.NoError(t, err)
	require.NoError(t, rc.Err)
	for _, c := range rc.Configs {
		if c.Key == name {
			return c
		}
	}
	t.Fatalf("%s has no %s", resource, name)
	return kadm.Config{}
}

func TestPropertiesAreInEffect(t *testing.T) {
	b := brokertest.New(t, withProperties(map[string]string{"log.retention.hours": "1", "num.partitions": "3", "broker.rack": "r1", "delete.topic.enable": "false"})).Broker
	adm := kadm.NewClient(client(t, b))
	ctx := bounded(t)
	_, err := adm.CreateTopic(ctx, -1, -1, nil, "t")
	require.NoError(t, err)
	topics, err := adm.ListTopics(ctx, "t")
	require.NoError(t, err)
	require.Len(t, topics["t"].Partitions, 3)
	described, err := adm.DescribeTopicConfigs(ctx, "t")
	require.NoError(t, err)
	require.Equal(t, "3600000", *configValue(t, described, "t", "retention.ms").Value)
	brokers, err := adm.ListBrokers(ctx)
	require.NoError(t, err)
	require.Equal(t, "r1", *brokers[0].Rack)
	_, err = adm.DeleteTopic(ctx, "t")
	require.ErrorContains(t, err, "TOPIC_DELETION_DISABLED")
}

func TestNodeZero(t *testing.T) {
	for _, property := range []string{"node.id", "broker.id"} {
		dir := t.TempDir()
		on := func(properties map[string]string) brokertest.Option {
			return brokertest.With(func(c *broker.Config) { c.DataDir, c.Properties = dir, properties })
		}
		for range 2 { // a second time in the same directory
			b := brokertest.New(t, on(map[string]string{property: "0"})).Broker
			cl := client(t, b)
			require.NoError(t, cl.ProduceSync(bounded(t), &kgo.Record{Topic: "t"}).FirstErr())
			m, err := kadm.NewClient(cl).Metadata(bounded(t))
			require.NoError(t, err)
			require.Equal(t, []int32{0}, m.Brokers.NodeIDs())
			require.Zero(t, m.Controller)
			require.Equal(t, []int32{0}, m.Topics["t"].Partitions[0].Replicas)
			cl.Close()
			require.NoError(t, b.Close())
		}
		_, err := broker.Start(bounded(t), broker.Config{DataDir: dir})
		require.ErrorContains(t, err, "it belongs to node 0, not to 1")
	}
}

func TestDynamicConfigurationsChangeTopicsAndOutliveRestarts(t *testing.T) {
	dir := t.TempDir()
	set := func(name, value string) []kadm.AlterConfig {
		return []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}
	}
	func() {
		b := brokertest.New(t, brokertest.With(func(c *broker.Config) { c.DataDir = dir })).Broker
		defer func() { require.NoError(t, b.Close()) }()
		cl := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
		adm := kadm.NewClient(cl)
		ctx := bounded(t)
		_, err := adm.CreateTopic(ctx, 1, 1, nil, "t")
		require.NoError(t, err)
		require.NoError(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: make([]byte, 1000)}).FirstErr())
		// For all brokers, then for this one, which comes first; then the topic itself.
		_, err = adm.AlterBrokerConfigs(ctx, set("message.max.bytes", "500"))
		require.NoError(t, err)
		require.ErrorContains(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: make([]byte, 1000)}).FirstErr(), "MESSAGE_TOO_LARGE")
		_, err = adm.AlterBrokerConfigs(ctx, set("message.max.bytes", "5000"), 1)
		require.NoError(t, err)
		require.NoError(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: make([]byte, 1000)}).FirstErr())
		_, err = adm.AlterTopicConfigs(ctx, set("max.message.bytes", "700"), "t")
		require.NoError(t, err)
		require.ErrorContains(t, cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: make([]byte, 1000)}).FirstErr(), "MESSAGE_TOO_LARGE")
	}()
	b := brokertest.New(t, brokertest.With(func(c *broker.Config) { c.DataDir = dir })).Broker
	adm := kadm.NewClient(client(t, b))
	described, err := adm.DescribeTopicConfigs(bounded(t), "t")
	require.NoError(t, err)
	c := configValue(t, described, "t", "max.message.bytes")
	require.Equal(t, "700", *c.Value)
	var synonyms []string
	for _, s := range c.Synonyms {
		synonyms = append(synonyms, s.Source.String()+" "+s.Key+"="+*s.Value)
	}
	require.Equal(t, []string{
		"DYNAMIC_TOPIC_CONFIG max.message.bytes=700", "DYNAMIC_BROKER_CONFIG message.max.bytes=5000",
		"DYNAMIC_DEFAULT_BROKER_CONFIG message.max.bytes=500", "DEFAULT_CONFIG message.max.bytes=1048588",
	}, synonyms)
	described, err = adm.DescribeBrokerConfigs(bounded(t), 1)
	require.NoError(t, err)
	require.Equal(t, "5000", *configValue(t, described, "1", "message.max.bytes").Value)
}

// pemFile writes a certificate chain and its key as Kafka's PEM key stores have them.
func pemFile(t *testing.T, c tls.Certificate) string {
	var data []byte
	for _, der := range c.Certificate {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	require.NoError(t, err)
	data = append(data, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	path := filepath.Join(t.TempDir(), "server.pem")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

func TestListenersFromProperties(t *testing.T) {
	certs := brokertest.NewCertificates(t)
	keyStore := pemFile(t, certs.Server().Certificates[0])
	b := brokertest.New(t, brokertest.With(func(c *broker.Config) {
		c.Listen = nil
		c.Properties = map[string]string{
			"listeners":                                   "PLAINTEXT://127.0.0.1:0,SECURE://127.0.0.1:0,CONTROLLER://127.0.0.1:0",
			"listener.security.protocol.map":              "PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT",
			"controller.listener.names":                   "CONTROLLER",
			"ssl.keystore.type":                           "PEM",
			"listener.name.secure.ssl.keystore.location":  keyStore,
			"sasl.enabled.mechanisms":                     "PLAIN",
			"listener.name.secure.plain.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret";`,
		}
	})).Broker
	require.Len(t, b.Addrs(), 2, "the controller is inside")
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()[1]), kgo.DialTLSConfig(certs.Client()),
		kgo.SASL(plain.Auth{User: "alice", Pass: "secret"}.AsMechanism()))
	require.NoError(t, err)
	defer cl.Close()
	require.NoError(t, cl.Ping(bounded(t)))
}

func TestCertificatesAreReadAgainWhenTheyAreSetAgain(t *testing.T) {
	old, next := brokertest.NewCertificates(t), brokertest.NewCertificates(t)
	keyStore := pemFile(t, old.Server().Certificates[0])
	const name = "listener.name.ssl.ssl.keystore.location"
	b := brokertest.New(t, brokertest.With(func(c *broker.Config) {
		c.Listen = nil
		c.Properties = map[string]string{"listeners": "SSL://127.0.0.1:0", "ssl.keystore.type": "PEM", "ssl.keystore.location": keyStore}
	})).Broker
	dial := func(certs brokertest.Certificates) *kgo.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.DialTLSConfig(certs.Client()), kgo.RequestRetries(0))
		require.NoError(t, err)
		t.Cleanup(cl.Close)
		return cl
	}
	require.NoError(t, dial(old).Ping(bounded(t)))
	adm := kadm.NewClient(dial(old))
	set := func(value string) error {
		resps, err := adm.AlterBrokerConfigs(bounded(t), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, 1)
		require.NoError(t, err)
		return resps[0].Err
	}
	require.ErrorContains(t, set("/no/such/file"), "INVALID_REQUEST")
	data, err := os.ReadFile(pemFile(t, next.Server().Certificates[0]))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(keyStore, data, 0o600))
	for range 2 { // the second time nothing is new but the file
		require.NoError(t, set(keyStore))
	}
	require.NoError(t, dial(next).Ping(bounded(t)))
	require.Error(t, dial(old).Ping(bounded(t)))
}

func TestPropertiesThatContradict(t *testing.T) {
	for name, c := range map[string]struct {
		config broker.Config
		want   string
	}{
		"field and property":      {broker.Config{NodeID: 3, Properties: map[string]string{"node.id": "4"}}, "set one of them"},
		"directory":               {broker.Config{DataDir: "a", Properties: map[string]string{"log.dirs": "b"}}, "set one of them"},
		"listeners":               {broker.Config{Listen: []string{":0"}, Properties: map[string]string{"listeners": "PLAINTEXT://:0"}}, "set one of them"},
		"advertised only":         {broker.Config{Properties: map[string]string{"advertised.listeners": "PLAINTEXT://a:1"}}, "but not listeners"},
		"advertised unknown":      {broker.Config{Properties: map[string]string{"listeners": "PLAINTEXT://:0", "advertised.listeners": "X://a:1"}}, "there is no listener X"},
		"protocol":                {broker.Config{Properties: map[string]string{"listeners": "EXTERNAL://:0"}}, "security protocol for EXTERNAL"},
		"no key store":            {broker.Config{Properties: map[string]string{"listeners": "SSL://:0"}}, "ssl.keystore.location is not set"},
		"key store of Java":       {broker.Config{Properties: map[string]string{"listeners": "SSL://:0", "ssl.keystore.location": "/x"}}, "only PEM can be read"},
		"mechanism":               {broker.Config{Properties: map[string]string{"listeners": "SASL_PLAINTEXT://:0"}}, `"GSSAPI" is not known`},
		"authorizer":              {broker.Config{Properties: map[string]string{"authorizer.class.name": "x.Y"}}, "access control lists are not supported yet"},
		"creation switched twice": {broker.Config{NoAutoCreate: true, Properties: map[string]string{"auto.create.topics.enable": "true"}}, "set one of them"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := broker.Start(bounded(t), c.config)
			require.ErrorContains(t, err, c.want)
		})
	}
}
