package batch

// Pool is a fixed number of Decompressors. It bounds the memory and the work that
// compressed input can cause at one time.
type Pool struct {
	free chan *Decompressor
}

// NewPool returns a pool of n decompressors with the given output limit in bytes.
func NewPool(n, limit int) *Pool {
	p := &Pool{free: make(chan *Decompressor, n)}
	for range n {
		p.free <- NewDecompressor(limit)
	}
	return p
}

// Get takes a decompressor, waiting until one is free. Give it back with Put.
func (p *Pool) Get() *Decompressor { return <-p.free }

// Put gives back what Get returned, together with the memory it decompressed into.
func (p *Pool) Put(d *Decompressor) { p.free <- d }
