package serde

// WithSchema is a serde whose format has a schema: what packages avro, protobuf and jsonschema make,
// and what package registry needs to write the id of the schema in front of each value and
// to read values that were written with another version of it.
type WithSchema[T any] interface {
	Serde[T]
	// Schema is what Append writes with, and what Decode takes src for.
	Schema() Schema
	// Decoder returns what Decode is for values that were written with another schema, or the error that
	// says why such values cannot be read as a T. It is called once per schema, not per value.
	Decoder(writer Schema) (decode func(src []byte) (T, error), err error)
}

// Schema is a schema as a registry knows it.
type Schema struct {
	Type       string // AVRO, PROTOBUF or JSON
	Text       string
	Name       string      // of the record or message, with namespace or package; "" if it has none
	Message    []int       // PROTOBUF: where the message is in the file, from the outermost in
	References []Reference // what the text uses by name, each in front of those that use it
}

// Reference is a schema that another one uses.
type Reference struct {
	Name    string // as the text says it: a full name (AVRO), a path (PROTOBUF), a URL (JSON)
	Subject string // "" if it is the Name
	Schema  Schema
}
