package group

import (
	"bufio"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// TestRecordsAreKafkas replays what Apache Kafka 4.3.1 wrote about a group (its life as
// a consumer group with static, classic and regular-expression members, down to a
// classic group) and writes each record again: the bytes must be the same.
func TestRecordsAreKafkas(t *testing.T) {
	f, err := os.Open("testdata/kafka_records.txt")
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	m := NewMachine(Config{}, nil)
	kinds := map[int16]int{}
	for offset := int64(0); lines.Scan(); offset++ {
		keyHex, valueHex, _ := strings.Cut(lines.Text(), " ")
		rec := coordinator.Record{Key: unhex(t, keyHex)}
		if valueHex != "" {
			rec.Value = unhex(t, valueHex)
		}
		m.Replay(coordinator.Replayed{Record: rec, Offset: offset, ProducerID: -1})
		require.NoError(t, m.LoadError())
		k, err := decodeKey(rec.Key)
		require.NoError(t, err)
		kinds[k.typ]++
		if rec.Value == nil {
			continue
		}
		gl := m.ledger.groups[k.group]
		g, _ := gl.modern.(*consumerGroup)
		var again coordinator.Record
		switch k.typ {
		case keyOffset:
			again = offsetRecord(k.group, k.tp, gl.offsets[k.tp])
		case keyGroupMetadata:
			again = groupRecord(k.group, gl.meta)
		case keyConsumerGroup:
			again = g.epochRecord(g.epoch, g.metadataHash)
		case keyConsumerMember:
			again = g.memberRecord(g.members[k.name])
		case keyConsumerTargetMetadata:
			again = g.targetMetadataRecord(g.assignmentEpoch, g.assignedAt)
		case keyConsumerTarget:
			again = g.targetRecord(k.name, g.targets[k.name])
		case keyConsumerCurrent:
			again = g.currentRecord(g.members[k.name])
			g.check()
		case keyConsumerRegex:
			again = g.regexRecord(k.name, g.regexes[k.name])
		default:
			t.Fatalf("record type %d", k.typ)
		}
		require.Equal(t, hex.EncodeToString(rec.Key), hex.EncodeToString(again.Key), "line %d", offset+1)
		require.Equal(t, hex.EncodeToString(rec.Value), hex.EncodeToString(again.Value), "line %d, type %d", offset+1, k.typ)
	}
	require.NoError(t, lines.Err())
	for _, typ := range []int16{keyGroupMetadata, keyConsumerGroup, keyConsumerMember, keyConsumerTargetMetadata, keyConsumerTarget, keyConsumerCurrent, keyConsumerRegex} {
		require.NotZero(t, kinds[typ], "record type %d", typ)
	}
	require.Len(t, m.ledger.groups, 1)
	for _, gl := range m.ledger.groups {
		require.Nil(t, gl.modern, "it is a classic group at the end")
		require.Len(t, gl.meta.members, 1)
	}
}

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// TestXXH3 compares with the values of another implementation (hash4j 0.22, which
// Kafka uses) for bytes 7, 138, 13, ... of many lengths.
func TestXXH3(t *testing.T) {
	x := newXXH3()
	for n, want := range map[int]int64{
		0: 3244421341483603138, 1: 5502495245947142431, 2: 3010103725172346478, 3: 7943829059066201772, 4: 6650799683851767871,
		5: 5329424330036611939, 8: -433104430451296011, 9: 8944394699905593055, 12: 1644623058608254533, 16: -8742622969447446440,
		17: -5364924204495744911, 31: 5207339628089618566, 32: -2057812048208419218, 33: -6566554354575335565, 64: 1338082372350062813,
		65: -7510104758670172471, 87: -3416849939165488949, 96: -9139658339728870555, 97: -1061261424723314211, 127: -1347431566829023819,
		128: 1211889905577015873, 129: 1605741916052902306, 130: -4152583476355699217, 144: -5445485513641092422, 160: 7303868565341031498,
		200: -4540823641285081050, 239: -1094000318848756019, 240: -5273803999686196762, 241: -7679571566553258082, 256: -5665997791763767380,
		500: 8999962502413569934, 1023: -6246496178641082140, 1024: 8123710315364152507, 1025: 7405123385822357415, 1087: 4195253162261845823,
		1088: -847301810213770052, 1089: 3547648957351721518, 4000: -1488529480579487724, 10000: -7035427626841254827,
	} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*131 + 7)
		}
		assert.Equal(t, want, int64(x.sum(b)), "%d bytes", n)
	}
}

// TestTopicHashIsKafkas pins the layout of what is hashed.
func TestTopicHashIsKafkas(t *testing.T) {
	m := NewMachine(Config{}, nil)
	id := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfb}
	require.Equal(t, int64(-6454074494459153604), int64(m.topicHash(TopicInfo{Name: "té-topic", ID: id, Partitions: 2})), "of the id, name and partitions of the topic")
}
