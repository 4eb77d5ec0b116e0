// Package payments has the records of the workloads json and avro, for the program that runs them and for the one that writes
// and verifies them. WORKLOADS.md has none of these two: Kafka Streams has no program for them.
package payments

import (
	"fmt"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/serde/avro"
)

// Payment is a value of these workloads: about 100 bytes as JSON.
type Payment struct {
	ID      string `json:"id" avro:"id"`
	Card    string `json:"card" avro:"card"`
	Country string `json:"country" avro:"country"`
	Cents   int64  `json:"cents" avro:"cents"`
	Online  bool   `json:"online" avro:"online"`
}

const schema = `{"type":"record","name":"Payment","fields":[{"name":"id","type":"string"},{"name":"card","type":"string"},
	{"name":"country","type":"string"},{"name":"cents","type":"long"},{"name":"online","type":"boolean"}]}`

// Serde is that of a workload; false: it is another one.
func Serde(workload string) (s serde.Serde[Payment], ok bool) {
	switch workload {
	case "json":
		return serde.JSON[Payment](), true
	case "avro":
		return avro.New[Payment](schema), true
	}
	return nil, false
}

// Make makes payment i, whose key is its Card.
func Make(i int) Payment {
	x := uint64(i) * 0x9e3779b97f4a7c15
	x ^= x >> 29
	return Payment{
		ID:      fmt.Sprintf("payment-%010d", i),
		Card:    fmt.Sprintf("card-%07d", x%1_000_000),
		Country: string([]byte{'A' + byte(x>>32)%26, 'A' + byte(x>>40)%26}),
		Cents:   int64(x>>20) % 100_000,
		Online:  x>>50&1 == 1,
	}
}

// Counts tells whether the workload passes a payment on: nine of ten.
func Counts(p Payment) bool { return p.Cents%10 != 0 }

// WithFee is what becomes of one that is passed on.
func WithFee(p Payment) Payment {
	p.Cents += 30
	return p
}
