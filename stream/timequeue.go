package stream

// timeQueue is a heap of keys by time; keys of the same time come in the order of their bytes.
type timeQueue struct{ items []timedKey }

type timedKey struct {
	time int64
	key  string
}

func (a timedKey) less(b timedKey) bool {
	if a.time != b.time {
		return a.time < b.time
	}
	return a.key < b.key
}

func (q *timeQueue) reset() {
	clear(q.items)
	q.items = q.items[:0]
}

func (q *timeQueue) len() int        { return len(q.items) }
func (q *timeQueue) first() timedKey { return q.items[0] }

func (q *timeQueue) push(time int64, key []byte) {
	q.items = append(q.items, timedKey{time, string(key)})
	for i := len(q.items) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.items[i].less(q.items[up]) {
			return
		}
		q.items[i], q.items[up] = q.items[up], q.items[i]
		i = up
	}
}

func (q *timeQueue) pop() {
	last := len(q.items) - 1
	q.items[0] = q.items[last]
	q.items[last] = timedKey{}
	q.items = q.items[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q.items[child].less(q.items[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		q.items[i], q.items[least] = q.items[least], q.items[i]
		i = least
	}
}
