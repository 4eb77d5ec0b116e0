package registry_test

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/serde/avro"
	"github.com/moldau-stream/moldau/serde/registry"
	"github.com/moldau-stream/moldau/stream"
)

type Payment struct {
	ID       string `avro:"id"`
	Cents    int64  `avro:"cents"`
	Currency string `avro:"currency"`
}

const paymentSchema = `{"type": "record", "name": "Payment", "namespace": "shop", "fields": [
	{"name": "id", "type": "string"},
	{"name": "cents", "type": "long"},
	{"name": "currency", "type": "string", "default": "CZK"}]}`

func ExampleValue() {
	fake := srfake.New() // a registry in this process
	defer fake.Close()
	schemas := registry.New(fake.URL())
	defer schemas.Close()

	payments := registry.Value(schemas, "payments", avro.New[Payment](paymentSchema))
	topic := stream.NewTopic[string, Payment]("payments", serde.String, payments)

	b, err := payments.Append(nil, Payment{"1", 250, "EUR"})
	fmt.Printf("%s %x %v\n", topic.Name(), b, err)

	// A producer of yesterday: another schema, without a currency and with an int.
	fake.SeedSchema("payments-value", 2, 7, sr.Schema{Schema: `{"type": "record", "name": "Payment", "namespace": "shop", "fields": [
		{"name": "id", "type": "string"}, {"name": "cents", "type": "int"}]}`})
	p, err := payments.Decode([]byte("\x00\x00\x00\x00\x07\x021\x04"))
	fmt.Printf("%+v %v\n", p, err)
	// Output:
	// payments 00000000010231f40306455552 <nil>
	// {ID:1 Cents:2 Currency:CZK} <nil>
}

func ExampleKey() {
	fake := srfake.New()
	defer fake.Close()
	schemas := registry.New(fake.URL())
	defer schemas.Close()

	ids := registry.Key(schemas, "payments", avro.New[int64](`"long"`))
	b, err := ids.Append(nil, 5)
	fmt.Printf("%x %v %v\n", b, err, fake.SubjectExists("payments-key"))
	// Output:
	// 00000000010a <nil> true
}

func ExampleInHeaders() {
	fake := srfake.New()
	defer fake.Close()
	schemas := registry.New(fake.URL())
	defer schemas.Close()

	ids := registry.Value(schemas, "payments", avro.New[int64](`"long"`), registry.InHeaders())
	b, headers, err := ids.AppendWithHeaders(nil, 5, nil)
	fmt.Printf("%x %s %d %v\n", b, headers[0].Key, len(headers[0].Value), err)
	n, err := ids.DecodeWithHeaders(b, headers)
	fmt.Println(n, err)
	// Output:
	// 0a __value_schema_id 17 <nil>
	// 5 <nil>
}

func ExampleSubjects() {
	fake := srfake.New()
	defer fake.Close()
	schemas := registry.New(fake.URL())
	defer schemas.Close()

	for _, name := range []registry.SubjectName{registry.TopicName, registry.RecordName, registry.TopicRecordName} {
		payments := registry.Value(schemas, "payments", avro.New[Payment](paymentSchema), registry.Subjects(name))
		if _, err := payments.Append(nil, Payment{}); err != nil {
			fmt.Println(err)
		}
	}
	for _, subject := range []string{"payments-value", "shop.Payment", "payments-shop.Payment"} {
		fmt.Println(subject, fake.SubjectExists(subject))
	}
	// Output:
	// payments-value true
	// shop.Payment true
	// payments-shop.Payment true
}
