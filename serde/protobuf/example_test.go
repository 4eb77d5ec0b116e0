package protobuf_test

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/moldau-stream/moldau/serde/protobuf"
	"github.com/moldau-stream/moldau/serde/protobuf/internal/shoppb"
	"github.com/moldau-stream/moldau/serde/registry"
)

func ExampleNew() {
	prices := protobuf.New[*shoppb.Money]()
	b, err := prices.Append(nil, &shoppb.Money{Cents: 250, Currency: "EUR"})
	fmt.Printf("%x %v\n", b, err)
	price, err := prices.Decode(b)
	fmt.Println(price.GetCents(), price.GetCurrency(), err)
	// Output:
	// 08fa011203455552 <nil>
	// 250 EUR <nil>
}

func ExampleNew_registry() {
	fake := srfake.New() // a registry in this process
	defer fake.Close()
	schemas := registry.New(fake.URL())
	defer schemas.Close()

	prices := registry.Value(schemas, "prices", protobuf.New[*shoppb.Money]())
	b, err := prices.Append(nil, &shoppb.Money{Cents: 250, Currency: "EUR"})
	fmt.Printf("%x %v %v\n", b, err, fake.SubjectExists("prices-value"))
	// Output:
	// 00000000010008fa011203455552 <nil> true
}
