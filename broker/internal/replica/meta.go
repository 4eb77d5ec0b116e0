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

// properties is meta.properties: Kafka's fields and our format version.
type properties struct {
	clusterID   string
	nodeID      int32
	directoryID string
	format      int
}

func (p properties) encode() []byte {
	return fmt.Appendf(nil, "version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\nmoldau.format.version=%d\n",
		p.clusterID, p.nodeID, p.directoryID, p.format)
}

func decodeProperties(data []byte) (p properties, err error) {
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
		case "cluster.id":
			p.clusterID = v
		case "directory.id":
			p.directoryID = v
		case "node.id":
			n, err := strconv.ParseInt(v, 10, 32)
			if err != nil {
				return p, err
			}
			p.nodeID = int32(n)
		case "moldau.format.version":
			if p.format, err = strconv.Atoi(v); err != nil {
				return p, err
			}
		}
	}
	if p.clusterID == "" || p.format <= 0 {
		return p, errors.New("cluster.id or moldau.format.version is missing")
	}
	return p, nil
}

// loadMeta reads meta.properties or writes it into a new directory.
func (m *Manager) loadMeta() error {
	path := filepath.Join(m.dir, metaFile)
	data, err := vfs.ReadFile(m.fs, path, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return m.initMeta(path)
	}
	if err != nil {
		return err
	}
	p, err := decodeProperties(data)
	if err != nil {
		return fmt.Errorf("%s is not a data directory's meta.properties: %w; choose another directory or restore the file", path, err)
	}
	if p.format > formatVersion {
		return &NewerFormatError{Dir: m.dir, Found: p.format, Supported: formatVersion}
	}
	if m.cfg.ClusterID != "" && m.cfg.ClusterID != p.clusterID {
		return fmt.Errorf("it belongs to cluster %s, not to %s: choose another directory", p.clusterID, m.cfg.ClusterID)
	}
	if m.cfg.NodeID != 0 && m.cfg.NodeID != p.nodeID {
		// Its partitions have that node for a leader: clients would look for a broker that isn't there.
		return fmt.Errorf("it belongs to node %d, not to %d: start with node id %d, or choose another directory", p.nodeID, m.cfg.NodeID, p.nodeID)
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
	m.meta = properties{clusterID: m.cfg.ClusterID, nodeID: m.cfg.NodeID, directoryID: randomID(), format: formatVersion}
	if m.meta.clusterID == "" {
		m.meta.clusterID = randomID()
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
