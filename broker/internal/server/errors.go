package server

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// codeOf gives the protocol's error code and sentence for an error; 0 and nil for nil.
func codeOf(err error) (code int16, message *string) {
	if err == nil {
		return 0, nil
	}
	text := err.Error()
	var k *kerr.Error
	if plain, ok := err.(*kerr.Error); ok {
		text = plain.Description // Kafka's own sentence, without the name of the error
	}
	switch {
	case errors.As(err, &k):
		return k.Code, &text
	case errors.Is(err, replica.ErrDeleted):
		return kerr.UnknownTopicOrPartition.Code, &text
	case errors.Is(err, replica.ErrClosed), errors.Is(err, controller.ErrFailed), errors.Is(err, ErrClosed):
		return kerr.KafkaStorageError.Code, &text
	}
	return kerr.UnknownServerError.Code, &text
}

// code is codeOf without the sentence.
func code(err error) int16 {
	c, _ := codeOf(err)
	return c
}
