package replica

import (
	"errors"

	"github.com/moldau-stream/moldau/broker/internal/log"
)

// Durability says what an acknowledgement promises.
type Durability int

const (
	// Sync acknowledges after an fsync. What was acknowledged survives a power cut.
	Sync Durability = iota
	// PageCache acknowledges once the operating system has the bytes. What was
	// acknowledged survives the death of this process, not a power cut or a kernel crash.
	PageCache
)

// String is the mode's name.
func (d Durability) String() string {
	if d == PageCache {
		return "page-cache"
	}
	return "sync"
}

// Aliases of what the log speaks, so that callers need one import.
type (
	AppendOptions   = log.AppendOptions
	AppendResult    = log.AppendResult
	ReadResult      = log.ReadResult
	Span            = log.Span
	Isolation       = log.Isolation
	AbortedTxn      = log.AbortedTxn
	TimestampOffset = log.TimestampOffset
	EpochEnd        = log.EpochEnd
	ProducerState   = log.ProducerState
	Guard           = log.Guard
)

// How far a read may go; see log.Isolation.
const (
	ReadUncommitted = log.ReadUncommitted
	ReadCommitted   = log.ReadCommitted
	ReadLogEnd      = log.ReadLogEnd
)

var (
	// ErrClosed is the error of everything on a partition or manager that was closed.
	ErrClosed = errors.New("partition is closed")
	// ErrDeleted is the error of everything on a deleted partition.
	ErrDeleted = errors.New("partition is deleted")
)
