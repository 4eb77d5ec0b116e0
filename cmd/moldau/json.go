package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// jsonFormat prints a record as one JSON object on a line. Its numbers are Kafka's; keys and values are strings, numbers when they
// were asked for as such, null, or, if they are no text, {"base64": ...}.
func jsonFormat(key, value decoder) format {
	return format{func(dst []byte, r *kgo.Record) ([]byte, error) {
		k, err := key.json(r.Key, "key")
		if err != nil {
			return dst, err
		}
		v, err := value.json(r.Value, "value")
		if err != nil {
			return dst, err
		}
		headers := make([]jsonHeader, len(r.Headers))
		for i, h := range r.Headers {
			headers[i] = jsonHeader{h.Key, jsonBytes(h.Value)}
		}
		b := bytes.NewBuffer(dst)
		e := json.NewEncoder(b)
		e.SetEscapeHTML(false)
		err = e.Encode(struct {
			Topic     string          `json:"topic"`
			Partition int32           `json:"partition"`
			Offset    int64           `json:"offset"`
			Timestamp int64           `json:"timestamp"` // ms
			Key       json.RawMessage `json:"key"`
			Value     json.RawMessage `json:"value"`
			Headers   []jsonHeader    `json:"headers"`
		}{r.Topic, r.Partition, r.Offset, r.Timestamp.UnixMilli(), k, v, headers})
		return b.Bytes(), err
	}}
}

type jsonHeader struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// json is what a key or value looks like in JSON.
func (d decoder) json(b []byte, what string) (json.RawMessage, error) {
	if b == nil || d.name == "raw" {
		return jsonBytes(b), nil
	}
	text, err := d.append(nil, b, what, "")
	if err != nil {
		return nil, err
	}
	if _, err := strconv.ParseFloat(string(text), 64); err == nil && d.size != 0 && json.Valid(text) {
		return text, nil // not NaN and the infinities, which JSON lacks
	}
	return jsonText(string(text)), nil
}

func jsonBytes(b []byte) json.RawMessage {
	switch {
	case b == nil:
		return json.RawMessage("null")
	case utf8.Valid(b):
		return jsonText(string(b))
	}
	return fmt.Appendf(nil, `{"base64":"%s"}`, base64.StdEncoding.EncodeToString(b))
}

func jsonText(s string) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(fmt.Sprintf("encode %q: %v", s, err)) // a string always encodes
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
