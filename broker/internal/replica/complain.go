package replica

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// complaintInterval keeps a full disk, which fails thousands of requests per second, from filling
// what the logs are written to as well.
const complaintInterval = 10 * time.Second

// complaints logs failures of the storage. Clients get only KAFKA_STORAGE_ERROR of them, which most
// take for temporary and retry without a word: the log is where an operator finds the file and
// the reason.
type complaints struct {
	mu     sync.Mutex
	last   time.Time
	silent int // failures since last that were not logged
}

// add logs err, if it is a failure of the storage and none was logged just before.
func (c *complaints) add(logger *slog.Logger, now time.Time, topic string, partition int32, err error) {
	if !errors.Is(err, kerr.KafkaStorageError) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() && now.Sub(c.last) < complaintInterval {
		c.silent++
		return
	}
	logger.Error("storage error; clients try again until it is mended",
		"topic", topic, "partition", partition, "error", err, "not_logged", c.silent)
	c.last, c.silent = now, 0
}
