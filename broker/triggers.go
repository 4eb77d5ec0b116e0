package broker

// Compact compacts the logs of all compacted topics now, whatever their share of superseded records; what min.compaction.lag.ms and
// open transactions hold back stays. The broker does it by itself when it pays; this is for tests and for people who want their
// space back.
func (b *Broker) Compact() error { return b.replicas.Compact() }

// Retain deletes now what the retention of topics and DeleteRecords gave up, and forgets idle producers. The broker does it by itself
// every few minutes (log.retention.check.interval.ms).
func (b *Broker) Retain() error { return b.replicas.Retain() }

// ClockMoved tells the broker that Config.Now jumped forward, as the clocks of tests do, so that what is due by it happens at once:
// sessions and transactions time out, offsets and locks expire. Nothing has to be told of a clock that runs by itself.
func (b *Broker) ClockMoved() { b.server.ClockMoved() }
