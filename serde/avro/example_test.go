package avro_test

import (
	"fmt"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/serde/avro"
)

type Order struct {
	ID       string `avro:"id"`
	Cents    int64  `avro:"cents"`
	Currency string `avro:"currency"`
}

var orders = avro.New[Order](`{"type": "record", "name": "Order", "fields": [
	{"name": "id", "type": "string"},
	{"name": "cents", "type": "long", "aliases": ["amount"]},
	{"name": "currency", "type": "string", "default": "CZK"}]}`)

func ExampleNew() {
	b, err := orders.Append(nil, Order{"a", 5, "EUR"})
	fmt.Printf("%x %v\n", b, err)
	o, err := orders.Decode(b)
	fmt.Printf("%+v %v\n", o, err)
	_, err = orders.Decode(b[:3])
	fmt.Println(err)
	// Output:
	// 02610a06455552 <nil>
	// {ID:a Cents:5 Currency:EUR} <nil>
	// serde: cannot decode Avro Order into avro_test.Order: want a number at byte 3 for string in currency, got 0 bytes: the input is truncated
}

// What an older version of the schema wrote is read by Avro's rules: a renamed field, a wider type, a default.
func ExampleNew_evolution() {
	decode, err := orders.Decoder(serde.Schema{Type: avro.Type, Text: `{"type": "record", "name": "Order", "fields": [
		{"name": "id", "type": "string"},
		{"name": "amount", "type": "int"}]}`})
	if err != nil {
		fmt.Println(err)
		return
	}
	o, err := decode([]byte{2, 'a', 10})
	fmt.Printf("%+v %v\n", o, err)

	_, err = orders.Decoder(serde.Schema{Type: avro.Type, Text: `{"type": "record", "name": "Order", "fields": [
		{"name": "amount", "type": "int"}]}`})
	fmt.Println(err)
	// Output:
	// {ID:a Cents:5 Currency:CZK} <nil>
	// avro: what Order wrote cannot be read as Order: field id: the writer does not have it and the reader has no default for it
}
