package store

import "math"

// Versions that were over before the history began go when their key gets another one (Versioned.forget). Those of keys that
// get none go bit by bit: each commit of a store that was written looks at some rows of the engine. So do tombstones from before
// the history with nothing before them. No read shows any of that, and nothing of it is in the changelog, as when Kafka
// Streams drops a segment.

// forgetHistory looks at n rows of the engine, from where it ended the last time.
func (k *KV) forgetHistory(n int) error {
	begin := since(k.now(), k.spec.Retention)
	seen := map[string]bool{} // rows of another key can lie between two of a key
	var over [][]byte         // keys that seem to have something to forget
	err := k.lookOn(n, func(it engineIterator) error {
		key, r := k.layout.split(it.key())
		if r.at >= begin {
			return nil
		}
		if !seen[string(key)] {
			seen[string(key)] = true
			if value, _, err := it.value(); err != nil || versionValue(value) != nil {
				return err
			}
		}
		over = append(over, append([]byte{}, key...))
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range over {
		if err := k.forgetVersions(key, begin); err != nil {
			return err
		}
	}
	return nil
}

// forgetVersions removes the versions of a key that were over before a time. The one that was over just then stays: a
// tombstone in the place of the next one still asks for it.
func (k *KV) forgetVersions(key []byte, begin int64) error {
	var row []byte
	for {
		kr, err := k.index.lookup(key, math.MinInt64)
		if err != nil || kr == nil {
			return err
		}
		refs := kr.refs()
		if len(refs) == 0 {
			k.index.drop(kr)
			return nil
		}
		row = k.layout.append(row[:0], key, refs[0])
		if len(refs) < 2 || refs[1].at >= begin {
			stored, _, ok, err := k.Get(row)
			if err != nil || !ok || refs[0].at >= begin || versionValue(stored) != nil {
				return err
			}
		}
		if !k.discard(row) {
			return nil // the changelog has yet to get it
		}
	}
}
