// Package registry makes serdes that keep the schema of each key or value in a schema registry: Confluent's, or one with
// the same REST interface. Bytes are those of Confluent's serializers, so topics are shared with Java applications.
//
//	var (
//		schemas = registry.New("http://localhost:8081")
//		orders  = stream.NewTopic("orders", serde.String,
//			registry.Value(schemas, "orders", avro.New[Order](orderSchema)))
//	)
//
//	                          registry: subject orders-value
//	                            id 7: {"type":"record","name":"Order",...}   version 1
//	                            id 9: {"type":"record","name":"Order",...}   version 2
//	          add or look up, once ^         | get, once per id
//	                               |         v
//	Order --> format.Append --> 00 00000009 payload --> format.Decoder(schema 9) --> Order, as our schema has it
//
// The formats are those of packages avro, protobuf and jsonschema: each is a serde by itself, without a registry. The
// schema given to the format is the one that is written, and the reader's schema of everything that is read: a record
// of another version of it is brought to ours, by the rules of the format. A null key or value has no schema: Kafka's
// null stays null (see serde.Nullable).
//
// # Form of the bytes
//
//	0x00, id (4 bytes, big-endian), [message indexes, Protobuf only,] payload          written by default
//	header __key_schema_id or __value_schema_id: 0x01, GUID (16 bytes), [indexes];     written with InHeaders
//	    the bytes are the payload alone
//
// Both are read, whatever is written; a header counts more than what is in front of the payload. A record that is made
// from another one keeps its headers, but not this one: it is written anew or left out.
//
// # Subjects, topics and stores
//
// A serde is declared for one topic, whose name makes the subject: orders-value, orders-key. Subjects changes the rule, Subject
// sets the name. A topic that is only read needs no subject: any schema of the registry is taken that ours can read.
//
// Stores and internal topics have the subject of the serde that they are given. Kafka Streams' own has one per internal
// topic: declare the serde of a store with the name of its changelog, <application>-<store>-changelog, and that of
// a repartition with <application>-<name>-repartition, to have the same.
//
//	totals := state.KeyValue("totals", serde.String, registry.Value(schemas, "shop-totals-changelog", avro.New[Total](s)))
//
// With the serde of a topic instead, no further subjects are made. With the format alone, a store needs no registry, but
// the schema cannot change while there is data.
//
// # When something is wrong
//
// Each error is an *Error, which names subject, schema and registry, and what to do; the stream adds topic, partition
// and offset. errors.Is finds ErrUnavailable (after the retries of the client; what is known by then stays usable without
// the registry), ErrUnknownSchema, ErrIncompatible, ErrMalformed (a poison record), ErrRefused, ErrClosed: what an error policy
// decides by.
package registry
