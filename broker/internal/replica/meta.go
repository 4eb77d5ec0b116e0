package replica

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moldau-stream/moldau/internal/vfs"
)

// formatVersion is the version of the data directory that this binary writes. An older
// directory is upgraded when it is opened; a newer one is refused.
const formatVersion = 1

// NewerFormatError says that a newer version of the program wrote the directory. Open puts the name in front.
type NewerFormatError struct {
	Dir              string
	Found, Supported int
}

func (e *NewerFormatError) Error() string {
	return fmt.Sprintf("it has format version %d, this program supports up to %d: use a newer version of the program", e.Found, e.Supported)
}

// Properties is meta.properties: Kafka's fields and our format version.
type Properties struct {
	ClusterID   string
	NodeID      int32
	DirectoryID string
	Format      int // 0: Apache Kafka wrote it
}

func (p Properties) encode() []byte {
	return fmt.Appendf(nil, "version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\nmoldau.format.version=%d\n",
		p.ClusterID, p.NodeID, p.DirectoryID, p.Format)
}

// DirectoryUUID is the directory id as bytes.
func (p Properties) DirectoryUUID() (id [16]byte, err error) {
	b, err := base64.RawURLEncoding.DecodeString(p.DirectoryID)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%s: directory.id %q is no UUID in base64", MetaFile, p.DirectoryID)
	}
	copy(id[:], b)
	return id, nil
}

func decodeProperties(data []byte) (p Properties, err error) {
	version := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if !ok {
			return p, fmt.Errorf("line %q has no =", line)
		}
		switch k {
		case "version":
			version = v
		case "cluster.id":
			p.ClusterID = v
		case "directory.id":
			p.DirectoryID = v
		case "node.id":
			n, err := strconv.ParseInt(v, 10, 32)
			if err != nil {
				return p, err
			}
			p.NodeID = int32(n)
		case "moldau.format.version":
			if p.Format, err = strconv.Atoi(v); err != nil {
				return p, err
			}
			if p.Format <= 0 {
				return p, fmt.Errorf("moldau.format.version is %d", p.Format)
			}
		}
	}
	if version != "1" || p.ClusterID == "" {
		return p, errors.New("version=1 or cluster.id is missing (Apache Kafka before 4.0 wrote version 0)")
	}
	return p, nil
}

// ReadProperties reads the meta.properties of a data directory.
func ReadProperties(fsys vfs.FS, dir string) (Properties, error) {
	path := filepath.Join(dir, MetaFile)
	data, err := vfs.ReadFile(fsys, path, 64<<10)
	if err != nil {
		return Properties{}, err
	}
	p, err := decodeProperties(data)
	if err != nil {
		return p, fmt.Errorf("%s is not a data directory's meta.properties: %w; choose another directory or restore the file", path, err)
	}
	return p, nil
}

// WriteProperties makes a directory one that Open takes, with this binary's format version.
func WriteProperties(fsys vfs.FS, dir string, p Properties) error {
	p.Format = formatVersion
	return vfs.WriteFile(fsys, dir, filepath.Join(dir, MetaFile), p.encode())
}

// loadMeta reads meta.properties or writes it into a new directory.
func (m *Manager) loadMeta() error {
	p, err := ReadProperties(m.fs, m.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return m.initMeta(filepath.Join(m.dir, MetaFile))
	}
	if err != nil {
		return err
	}
	if p.Format == 0 {
		return fmt.Errorf("it is a directory of Apache Kafka: `moldau takeover %s` makes it one of Moldau", m.dir)
	}
	if p.Format > formatVersion {
		return &NewerFormatError{Dir: m.dir, Found: p.Format, Supported: formatVersion}
	}
	if m.cfg.ClusterID != "" && m.cfg.ClusterID != p.ClusterID {
		return fmt.Errorf("it belongs to cluster %s, not to %s: choose another directory", p.ClusterID, m.cfg.ClusterID)
	}
	if m.cfg.NodeID != p.NodeID {
		// Its partitions have that node for a leader: clients would look for a broker that isn't there.
		return fmt.Errorf("it belongs to node %d, not to %d: start with node id %d, or choose another directory", p.NodeID, m.cfg.NodeID, p.NodeID)
	}
	m.meta = p
	return nil
}

func (m *Manager) initMeta(path string) error {
	names, err := m.fs.List(m.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if _, ok := parseDir(n); ok {
			return fmt.Errorf("%s is missing, but there are partitions such as %s: choose an empty directory or restore the file", path, n)
		}
	}
	m.meta = Properties{ClusterID: m.cfg.ClusterID, NodeID: m.cfg.NodeID, DirectoryID: randomID(), Format: formatVersion}
	if m.meta.ClusterID == "" {
		m.meta.ClusterID = randomID()
	}
	if err := vfs.WriteFile(m.fs, m.dir, path, m.meta.encode()); err != nil {
		return err
	}
	return m.fs.SyncDir(filepath.Dir(m.dir)) // the directory's own name
}

// randomID is a random UUID in Kafka's base64 form.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return base64.RawURLEncoding.EncodeToString(b[:])
}
