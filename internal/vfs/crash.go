package vfs

import (
	"bytes"
	"math/rand/v2"
)

// CrashClone returns the file system as a power cut at this moment might leave it. What
// was synced is there. Of what was not, rng decides:
//
//   - for each block of 512 to 4096 bytes whether its old or its new content is on
//     disk, and for each file whether its size is the old one, the new one, or between;
//   - for each created, removed or renamed name whether that happened.
//
// Share of survival varies from file to file between none and all. The clone has
// another BootID, no locks, no hook and no capacity limit; m is not changed.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.boot = m.boot + "+"
	seen := map[*node]*node{}
	c.root = m.root.crash(rng, seen)
	c.used = c.root.bytes()
	return c
}

func (n *node) bytes() int64 {
	total := int64(len(n.data))
	for _, child := range n.names {
		total += child.bytes()
	}
	return total
}

func (n *node) crash(rng *rand.Rand, seen map[*node]*node) *node {
	if c, ok := seen[n]; ok {
		return c
	}
	c := &node{dir: n.dir, mod: n.mod}
	seen[n] = c
	if !n.dir {
		c.data = crashBytes(n.durable, n.data, rng)
		c.durable = bytes.Clone(c.data)
		return c
	}
	names := make(map[string]*node, len(n.durableNames))
	for name, child := range n.durableNames {
		names[name] = child
	}
	keep := survival(rng)
	for _, op := range n.pending {
		if rng.Float64() >= keep {
			continue
		}
		if op.from != "" && names[op.from] == op.to {
			delete(names, op.from)
		}
		if op.to == nil {
			delete(names, op.name)
		} else {
			names[op.name] = op.to
		}
	}
	c.names = make(map[string]*node, len(names))
	c.durableNames = make(map[string]*node, len(names))
	for _, name := range sortedKeys(names) { // in order, so that a seed means one outcome
		child := names[name].crash(rng, seen)
		c.names[name] = child
		c.durableNames[name] = child
	}
	return c
}

// survival draws how likely one unsynced thing is to be on disk.
func survival(rng *rand.Rand) float64 {
	switch rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return 1
	}
	return rng.Float64()
}

func crashBytes(old, cur []byte, rng *rand.Rand) []byte {
	if bytes.Equal(old, cur) {
		return bytes.Clone(cur)
	}
	size := len(old)
	switch rng.IntN(3) {
	case 0:
	case 1:
		size = len(cur)
	case 2:
		lo, hi := min(len(old), len(cur)), max(len(old), len(cur))
		size = lo + rng.IntN(hi-lo+1)
	}
	out := make([]byte, size) // blocks that never reached the disk read as zeros
	copy(out, old)
	block := 512 << rng.IntN(4)
	keep := survival(rng)
	for at := 0; at < len(cur) && at < size; at += block {
		end := min(at+block, len(cur), size)
		if rng.Float64() < keep {
			copy(out[at:end], cur[at:end])
		}
	}
	return out
}
