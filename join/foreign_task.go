package join

import (
	"bytes"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/murmur"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/stream"
)

// send subscribes rows of the left table that change to the rows of their foreign keys.
func (j *foreignJoin[K, L, FK, R, O]) send(c *task.Context, n *topo.Node, out messages) task.Table[K, L] {
	nullFK := dsl.NullKey[FK]()
	buf := func() []byte { return make([]byte, 0, 64) } // never nil: empty is not null
	keyBuf, oldBuf, newBuf, valueBuf, msg := buf(), buf(), buf(), buf(), buf()
	// foreign is the encoded foreign key of a row, nil if there is none.
	foreign := func(k K, v L, null bool, to *[]byte) ([]byte, error) {
		if null {
			return nil, nil
		}
		fk := j.fk(k, v)
		if nullFK.Of(fk, 0) != 0 {
			return nil, nil
		}
		err := encode(j.foreign.Serde, to, fk)
		return *to, err
	}
	return func(k K, v, old L, m task.Meta) error {
		if j.l.T.Versioned && m.Stale {
			c.Drop(task.Stale)
			return nil
		}
		is, was := m.Null&task.ValueIsNull == 0, m.Null&task.OldIsNull == 0
		if !is && !was {
			return nil
		}
		c.Node = n
		oldFK, err := foreign(k, old, !was, &oldBuf)
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		newFK, err := foreign(k, v, !is, &newBuf)
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		s := subscription{partition: c.Partition()}
		if err = encode(j.key.Serde, &keyBuf, k); err == nil && is {
			err = encode(j.left.Serde, &valueBuf, v)
		}
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		s.key = keyBuf
		var sum [hashSize]byte
		if is {
			sum = murmur.Sum128(valueBuf)
			s.hash = sum[:]
		}
		forward := func(fk []byte, i instruction) error {
			s.instruction = i
			msg = s.append(msg[:0])
			return out(fk, msg, m.Time, -1)
		}
		moved := oldFK != nil && (newFK == nil || !bytes.Equal(oldFK, newFK))
		if j.how.kind == left {
			if moved {
				if err := forward(oldFK, unsubscribe); err != nil {
					return err
				}
			}
			return forward(newFK, subscribeAndAnswer)
		}
		switch {
		case newFK == nil:
			if is {
				c.Drop(task.NullForeignKey)
			}
			if oldFK == nil {
				return nil
			}
			return forward(oldFK, unsubscribeAndTell)
		case moved:
			if err := forward(oldFK, unsubscribe); err != nil {
				return err
			}
			return forward(newFK, subscribeAndAnswer)
		}
		return forward(newFK, subscribeAndIfThere)
	}
}

// receive keeps subscriptions.
func (j *foreignJoin[K, L, FK, R, O]) receive(c *task.Context, n *topo.Node, out messages) messages {
	kv := c.KV(j.store)
	row := make([]byte, 0, 64)
	return func(foreign, msg []byte, ts int64, _ int32) error {
		s, err := parseSubscription(msg)
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		if foreign == nil {
			if s.instruction != subscribeAndAnswer {
				c.Drop(task.NullForeignKey)
				return nil
			}
			return out(nil, msg, ts, -1)
		}
		row = append(appendForeign(row[:0], foreign), s.key...)
		if c.Undoable() {
			old, at, had, err := kv.Get(row)
			if err != nil {
				return task.Fail(n, task.Process, err)
			}
			c.Saved(kv, row, old, at, had)
		}
		stored := msg
		if s.instruction == unsubscribe || s.instruction == unsubscribeAndTell {
			stored = nil
		}
		if err := kv.Put(row, stored, ts); err != nil {
			return task.Fail(n, task.Process, err)
		}
		return out(foreign, msg, ts, -1)
	}
}

// look answers subscriptions with the rows of the right table.
func (j *foreignJoin[K, L, FK, R, O]) look(c *task.Context, n *topo.Node, out messages) messages {
	get := j.r.Lookup(c).Sent
	value, answer := make([]byte, 0, 64), make([]byte, 0, 64)
	return func(foreign, msg []byte, ts int64, _ int32) error {
		s, err := parseSubscription(msg)
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		c.Node = n
		var r R
		var at int64
		ok := false
		if foreign != nil {
			fk, err := j.foreign.Decode(foreign)
			if err == nil {
				r, at, ok, err = get(fk)
			}
			if err != nil {
				return task.Fail(n, task.Process, err)
			}
		}
		if ok {
			ts = max(ts, at)
		}
		switch s.instruction {
		case unsubscribe:
			return nil
		case unsubscribeAndTell:
			ok = false
		case subscribeAndIfThere:
			if !ok {
				return nil
			}
		}
		var v []byte
		if ok {
			if err := encode(j.right.Serde, &value, r); err != nil {
				return task.Fail(n, task.Process, err)
			}
			v = value
		}
		answer = appendAnswer(answer[:0], s.hash, v)
		return out(s.key, answer, ts, s.partition)
	}
}

// tell sends each change of a right row to all that have subscribed to it.
func (j *foreignJoin[K, L, FK, R, O]) tell(c *task.Context, n *topo.Node, out messages) task.Table[FK, R] {
	kv := c.KV(j.store)
	fkBuf, prefix, value, answer := make([]byte, 0, 64), make([]byte, 0, 64), make([]byte, 0, 64), make([]byte, 0, 64)
	return func(fk FK, v, _ R, m task.Meta) (err error) {
		if j.r.T.Versioned && m.Stale {
			c.Drop(task.Stale)
			return nil
		}
		c.Node = n
		if err := encode(j.foreign.Serde, &fkBuf, fk); err != nil {
			return task.Fail(n, task.Process, err)
		}
		var b []byte
		if m.Null&task.ValueIsNull == 0 {
			if err := encode(j.right.Serde, &value, v); err != nil {
				return task.Fail(n, task.Process, err)
			}
			b = value
		}
		prefix = appendForeign(prefix[:0], fkBuf)
		it := kv.Prefix(prefix, false)
		defer func() {
			if e := it.Close(); e != nil && err == nil {
				err = task.Fail(n, task.Process, e)
			}
		}()
		for it.Next() {
			s, err := parseSubscription(it.Value())
			if err != nil {
				return task.Fail(n, task.Process, err)
			}
			answer = appendAnswer(answer[:0], s.hash, b)
			if err := out(it.Key()[len(prefix):], answer, m.Time, s.partition); err != nil {
				return err
			}
		}
		return nil
	}
}

// resolve makes results of the answers to the left values of now.
func (j *foreignJoin[K, L, FK, R, O]) resolve(c *task.Context, n *topo.Node, out task.Stream[K, O]) messages {
	get := j.l.Lookup(c).Sent
	null := dsl.NullValue[O]()
	value := make([]byte, 0, 64)
	return func(key, msg []byte, ts int64, _ int32) error {
		hash, b, err := parseAnswer(msg)
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		c.Node = n
		k, err := j.key.Decode(key)
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		l, _, there, err := get(k)
		if err == nil && there {
			err = encode(j.left.Serde, &value, l)
		}
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		var sum [hashSize]byte
		var current []byte
		if there {
			sum = murmur.Sum128(value)
			current = sum[:]
		}
		if !sameHash(hash, current) {
			c.Drop(task.Outdated)
			return nil
		}
		m := task.Meta{Time: ts, Null: task.ValueIsNull}
		var res O
		if there && (b != nil || j.how.kind == left) {
			var r stream.Opt[R]
			if b != nil {
				if r, err = present(j.right.Decode(b)); err != nil {
					return task.Fail(n, task.Process, err)
				}
			}
			res = j.f(k, stream.Some(l), r)
			m.Null = null.Of(res, 0)
		}
		return out(k, res, m)
	}
}
