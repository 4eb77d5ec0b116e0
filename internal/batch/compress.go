package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// DefaultDecompressLimit bounds the decompressed size of one batch's records, in bytes.
const DefaultDecompressLimit = 64 << 20

// keepBuffer is the largest output buffer that a Decompressor keeps between uses.
const keepBuffer = 1 << 20

// Decompressor decompresses records with a limit. It keeps its buffers, so use
// one per goroutine or take turns; the output is valid until the next call.
type Decompressor struct {
	limit int
	buf   []byte
	src   bytes.Reader
	gz    *gzip.Reader
	lz    *lz4.Reader
	zs    *zstd.Decoder
	enc   Compressor
}

// Compressor compresses, with memory that is kept like that of the Decompressor.
func (d *Decompressor) Compressor() *Compressor { return &d.enc }

// NewDecompressor returns a Decompressor that refuses more than limit bytes of
// output with ErrTooLarge. A limit of 0 is DefaultDecompressLimit.
func NewDecompressor(limit int) *Decompressor {
	if limit <= 0 {
		limit = DefaultDecompressLimit
	}
	return &Decompressor{limit: limit}
}

// Raise makes the limit at least limit bytes.
func (d *Decompressor) Raise(limit int) { d.limit = max(d.limit, limit) }

// Decompress returns the decompressed form of src.
func (d *Decompressor) Decompress(c Codec, src []byte) ([]byte, error) {
	if cap(d.buf) > keepBuffer {
		d.buf = nil
	}
	var err error
	switch c {
	case None:
		if len(src) > d.limit {
			return nil, d.tooLarge(c)
		}
		return src, nil
	case Gzip:
		d.src.Reset(src)
		if d.gz == nil {
			d.gz, err = gzip.NewReader(&d.src)
		} else {
			err = d.gz.Reset(&d.src)
		}
		if err == nil {
			err = d.drain(d.gz)
		}
	case Snappy:
		err = d.snappy(src)
	case LZ4:
		if len(src) == 0 {
			return nil, &CompressionError{Codec: c, Err: io.ErrUnexpectedEOF} // no frame at all
		}
		d.src.Reset(src)
		if d.lz == nil {
			d.lz = lz4.NewReader(&d.src)
		} else {
			d.lz.Reset(&d.src)
		}
		err = d.drain(d.lz)
	case Zstd:
		d.src.Reset(src)
		if d.zs == nil {
			// Windows larger than the limit cannot be needed; one goroutine, no read-ahead.
			d.zs, err = zstd.NewReader(&d.src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(uint64(max(d.limit, 1<<20))))
		} else {
			err = d.zs.Reset(&d.src)
		}
		if err == nil {
			err = d.drain(d.zs)
		}
	default:
		return nil, &CompressionError{Codec: c}
	}
	if errors.Is(err, ErrTooLarge) || errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, d.tooLarge(c)
	}
	if err != nil {
		return nil, &CompressionError{Codec: c, Err: err}
	}
	return d.buf, nil
}

func (d *Decompressor) tooLarge(c Codec) error {
	return fmt.Errorf("%s records of more than %d bytes: %w", c, d.limit, ErrTooLarge)
}

// drain reads r to its end into buf.
func (d *Decompressor) drain(r io.Reader) error {
	if d.buf == nil {
		d.buf = make([]byte, 0, 16<<10)
	}
	d.buf = d.buf[:0]
	for {
		if len(d.buf) == cap(d.buf) {
			if len(d.buf) > d.limit {
				return ErrTooLarge
			}
			d.buf = append(d.buf, 0)[:len(d.buf)]
		}
		room := d.buf[len(d.buf):cap(d.buf)]
		if over := len(d.buf) + len(room) - d.limit - 1; over > 0 {
			room = room[:len(room)-over]
		}
		if len(room) == 0 {
			return ErrTooLarge
		}
		n, err := r.Read(room)
		d.buf = d.buf[:len(d.buf)+n]
		if len(d.buf) > d.limit {
			return ErrTooLarge
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// xerialMagic starts the framing that the Java client puts around snappy blocks:
// magic, version and compatible version (i32 each), then blocks of i32 length and data.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

func (d *Decompressor) snappy(src []byte) error {
	d.buf = d.buf[:0]
	if !bytes.HasPrefix(src, xerialMagic) {
		return d.snappyBlock(src)
	}
	if len(src) < 16 {
		return errors.New("cut off in the framing header")
	}
	for src = src[16:]; len(src) > 0; {
		if len(src) < 4 {
			return errors.New("cut off before a block")
		}
		n := int64(binary.BigEndian.Uint32(src))
		if n > int64(len(src)-4) {
			return fmt.Errorf("block of %d bytes in %d", n, len(src)-4)
		}
		if err := d.snappyBlock(src[4 : 4+n]); err != nil {
			return err
		}
		src = src[4+n:]
	}
	return nil
}

func (d *Decompressor) snappyBlock(src []byte) error {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return err
	}
	if n < 0 || n > d.limit-len(d.buf) {
		return ErrTooLarge
	}
	// The smallest encoding of a run is 3 bytes for 64: a larger claim cannot be true.
	if n > 64*len(src) {
		return fmt.Errorf("claims %d bytes from %d", n, len(src))
	}
	start := len(d.buf)
	if cap(d.buf)-start < n {
		grown := make([]byte, start, max(2*cap(d.buf), start+n))
		copy(grown, d.buf)
		d.buf = grown
	}
	out, err := s2.Decode(d.buf[start:start+n], src)
	if err != nil {
		return err
	}
	d.buf = d.buf[:start+len(out)]
	return nil
}
