package batch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Levels of compression that Kafka's clients and broker take for "the default".
const (
	DefaultGzipLevel = -1
	DefaultLZ4Level  = 9
	DefaultZstdLevel = 3
)

// Compressor compresses records. It keeps what its codecs need, so use one per goroutine or take turns. Its zero value is
// ready.
type Compressor struct {
	gz      *gzip.Writer
	gzLevel int
	lz      *lz4.Writer
	zs      *zstd.Encoder
	zsLevel zstd.EncoderLevel
	block   []byte
}

// Compress appends the compressed form of src to dst. Level is the codec's own scale as in Kafka's compression.*.level; 0 is the
// default, also for a codec without levels.
func (c *Compressor) Compress(codec Codec, level int, dst, src []byte) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return c.gzip(level, dst, src)
	case Snappy:
		return c.snappy(dst, src), nil
	case LZ4:
		return c.lz4(level, dst, src)
	case Zstd:
		return c.zstd(level, dst, src)
	}
	return nil, &CompressionError{Codec: codec}
}

func (c *Compressor) gzip(level int, dst, src []byte) ([]byte, error) {
	if level == 0 {
		level = DefaultGzipLevel
	}
	out := bytes.NewBuffer(dst)
	if c.gz == nil || c.gzLevel != level {
		w, err := gzip.NewWriterLevel(out, level)
		if err != nil {
			return nil, err
		}
		c.gz, c.gzLevel = w, level
	} else {
		c.gz.Reset(out)
	}
	if _, err := c.gz.Write(src); err != nil {
		return nil, err
	}
	if err := c.gz.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// snappyBlock is the size of the blocks that Java's clients write. Theirs is the framing that every client reads.
const snappyBlock = 32 << 10

func (c *Compressor) snappy(dst, src []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1)
	for len(src) > 0 {
		n := min(len(src), snappyBlock)
		if need := s2.MaxEncodedLen(snappyBlock); cap(c.block) < need {
			c.block = make([]byte, need)
		}
		packed := s2.EncodeSnappy(c.block[:cap(c.block)], src[:n])
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(packed)))
		dst = append(dst, packed...)
		src = src[n:]
	}
	return dst
}

func (c *Compressor) lz4(level int, dst, src []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	if c.lz == nil {
		c.lz = lz4.NewWriter(out)
	} else {
		c.lz.Reset(out)
	}
	// Small blocks, as Kafka's clients write: the default of 4 MiB costs that much memory per batch.
	if err := c.lz.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.CompressionLevelOption(lz4Level(level))); err != nil {
		return nil, err
	}
	if _, err := c.lz.Write(src); err != nil {
		return nil, err
	}
	if err := c.lz.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// lz4Level maps Kafka's scale of 1 to 17 to the library's. Kafka's default of 9 is the fast algorithm, every other level
// a search of that depth.
func lz4Level(level int) lz4.CompressionLevel {
	if level == 0 || level == DefaultLZ4Level {
		return lz4.Fast
	}
	return []lz4.CompressionLevel{lz4.Level1, lz4.Level2, lz4.Level3, lz4.Level4, lz4.Level5, lz4.Level6, lz4.Level7, lz4.Level8,
		lz4.Level9}[min(max(level, 1), 9)-1]
}

func (c *Compressor) zstd(level int, dst, src []byte) ([]byte, error) {
	if level == 0 {
		level = DefaultZstdLevel
	}
	if l := zstd.EncoderLevelFromZstd(level); c.zs == nil || c.zsLevel != l {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(l), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, err
		}
		c.zs, c.zsLevel = w, l
	}
	return c.zs.EncodeAll(src, dst), nil
}

// Recompress appends the batch with its records compressed by another codec to dst. payload is what Payload gave.
func (b Batch) Recompress(dst []byte, c *Compressor, codec Codec, level int, payload []byte) (Batch, error) {
	start := len(dst)
	dst, err := c.Compress(codec, level, append(dst, b[:HeaderLen]...), payload)
	if err != nil {
		return nil, fmt.Errorf("compress batch: %w", err)
	}
	out := Batch(dst[start:])
	if len(out) > math.MaxInt32 {
		return nil, fmt.Errorf("batch of %d bytes: %w", len(out), ErrTooLarge)
	}
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-PrefixLen))
	attrs := b.Attributes()&(AttrLogAppendTime|AttrTransactional|AttrControl) | int16(codec)
	binary.BigEndian.PutUint16(out[21:], uint16(attrs))
	out.sum()
	return out, nil
}
