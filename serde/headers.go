package serde

// Header is a record header. A nil Value is Kafka's null.
type Header struct {
	Key   string
	Value []byte
}

// WithHeaders is a serde that reads or writes headers of the record that a key or value is in, for
// example the id of its schema. Topics use it this way; a store, which keeps bytes
// without headers, uses the methods of Serde, and both read what either wrote.
type WithHeaders[T any] interface {
	Serde[T]
	// AppendWithHeaders is Append for a record with these headers. It returns also the headers that
	// the record is to have: the given ones if nothing changes, a new slice otherwise.
	// The given slice belongs to the caller and is not written to, nor behind its end.
	AppendWithHeaders(dst []byte, v T, headers []Header) ([]byte, []Header, error)
	// DecodeWithHeaders is Decode for a record with these headers. It keeps neither.
	DecodeWithHeaders(src []byte, headers []Header) (T, error)
}

// nullableWithHeaders is what Nullable makes of a WithHeaders.
type nullableWithHeaders[T any] struct {
	nullable[T]
	h WithHeaders[T]
}

func (n nullableWithHeaders[T]) AppendWithHeaders(dst []byte, v Opt[T], headers []Header) ([]byte, []Header, error) {
	if !v.ok {
		return dst, headers, nil
	}
	return n.h.AppendWithHeaders(dst, v.v, headers)
}

func (n nullableWithHeaders[T]) DecodeWithHeaders(src []byte, headers []Header) (Opt[T], error) {
	if src == nil {
		return Opt[T]{}, nil
	}
	v, err := n.h.DecodeWithHeaders(src, headers)
	if err != nil {
		return Opt[T]{}, err
	}
	return Some(v), nil
}
