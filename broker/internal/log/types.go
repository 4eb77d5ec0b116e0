package log

// AppendOptions say where a batch comes from and how it is checked.
type AppendOptions struct {
	// RequireVerification refuses (INVALID_TXN_STATE) the first transactional batch of
	// a transaction unless Guard is what StartVerification returned and no marker
	// of that producer was appended since (KIP-890).
	RequireVerification bool
	Guard               Guard
}

// Guard proves that a transaction's verification began after the last marker of its
// producer. The zero Guard proves nothing.
type Guard uint64

// AppendResult tells where a batch went.
type AppendResult struct {
	BaseOffset, LastOffset int64
	// AppendTime is in milliseconds, or -1 when the topic keeps the producer's timestamps.
	AppendTime int64
	// LogStartOffset is the first offset of the log at that time.
	LogStartOffset int64
	// Duplicate says that the batch was appended before, at these offsets.
	Duplicate bool
}

// AbortedTxn names an aborted transaction: batches of ProducerID from
// FirstOffset on, up to the producer's next abort marker, must be skipped.
type AbortedTxn struct {
	ProducerID, FirstOffset int64
}

// TimestampOffset is a record's place found by time.
type TimestampOffset struct {
	Timestamp   int64 // milliseconds
	Offset      int64
	LeaderEpoch int32
}

// EpochEnd is a leader epoch and the offset at which it ended. Both are -1 if unknown.
type EpochEnd struct {
	Epoch     int32
	EndOffset int64
}

// ProducerState is what the log knows about an idempotent or transactional producer.
type ProducerState struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: none
	LastOffset       int64 // of its last data batch; -1: none
	LastTimestamp    int64 // milliseconds
	CoordinatorEpoch int32 // of its last marker; -1: none
	TxnFirstOffset   int64 // first offset of the open transaction; -1: none open
}
