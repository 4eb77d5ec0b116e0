package server

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"pgregory.net/rapid"
)

// sessionsTest is a cache with a clock of its own.
type sessionsTest struct {
	*fetchSessions
	time  time.Time
	slots int
}

func newSessionsTest(slots int) *sessionsTest {
	s := &sessionsTest{time: time.Unix(1000, 0), slots: slots}
	s.fetchSessions = newFetchSessions(func() time.Time { return s.time }, func() int { return s.slots })
	return s
}

func namedFetch(id, epoch int32, partitions int) *fetch {
	f := &fetch{version: 12, sessionID: id, sessionEpoch: epoch}
	for p := range partitions {
		f.named = append(f.named, fetchPartition{topic: "t", partition: int32(p)})
	}
	return f
}

// open makes a session, as a fetch with all of n partitions does; 0 if there is no room.
func (s *sessionsTest) open(n int) int32 {
	f := namedFetch(0, fetchEpochNew, n)
	s.begin(f)
	id := s.create(f)
	if id != 0 {
		s.release(f.session)
	}
	return id
}

// use asks for what is new in a session.
func (s *sessionsTest) use(id, epoch int32) int16 {
	f := namedFetch(id, epoch, 0)
	s.begin(f)
	if f.session != nil {
		s.release(f.session)
	}
	return f.errorCode
}

func TestFullSessionCacheEvicts(t *testing.T) {
	s := newSessionsTest(2)
	small, large := s.open(2), s.open(5)
	require.NotZero(t, small)
	require.NotZero(t, large)
	require.Zero(t, s.open(9), "young sessions stay")

	s.time = s.time.Add(fetchSessionAge)
	require.Zero(t, s.use(small, 1))
	require.Zero(t, s.use(large, 1))
	require.Zero(t, s.open(9), "not old yet")

	s.time = s.time.Add(time.Second)
	require.Zero(t, s.use(small, 2))
	require.Zero(t, s.use(large, 2))
	require.Zero(t, s.open(2), "an old session stays before one that is not larger")
	third := s.open(3)
	require.NotZero(t, third, "the smallest old one goes")
	require.Equal(t, kerr.FetchSessionIDNotFound.Code, s.use(small, 3))
	require.Zero(t, s.use(large, 3))

	s.time = s.time.Add(fetchSessionAge + 1)
	require.Zero(t, s.use(large, 4))
	require.NotZero(t, s.open(1), "an idle one goes to anybody")
	require.Equal(t, kerr.FetchSessionIDNotFound.Code, s.use(third, 1))
	sessions, partitions := s.count()
	require.Equal(t, 2, sessions)
	require.Equal(t, 6, partitions)

	s.slots = 0
	require.Zero(t, newSessionsTest(0).open(1))
}

func TestSessionPartitionsAreBounded(t *testing.T) {
	s := newSessionsTest(10)
	require.NotZero(t, s.open(maxSessionPartitions-1))
	require.Zero(t, s.open(2))
	growing := s.open(1)
	require.NotZero(t, growing)
	f := namedFetch(growing, 1, 2)
	s.begin(f)
	require.Equal(t, kerr.FetchSessionIDNotFound.Code, f.errorCode, "a session cannot grow beyond it either")
	_, partitions := s.count()
	require.Equal(t, maxSessionPartitions-1, partitions)
}

func TestBusySessionIsNotShared(t *testing.T) {
	s := newSessionsTest(2)
	id := s.open(1)
	f := namedFetch(id, 1, 0)
	s.begin(f)
	require.NotNil(t, f.session)
	require.Equal(t, kerr.InvalidFetchSessionEpoch.Code, s.use(id, 1))
	require.Equal(t, kerr.InvalidFetchSessionEpoch.Code, s.use(id, 2), "the fetch before has not been answered")
	full := namedFetch(id, fetchEpochNew, 1) // from a new connection: the session goes, the fetch that has it goes on
	s.begin(full)
	s.release(f.session)
	require.Equal(t, kerr.FetchSessionIDNotFound.Code, s.use(id, 2))
}

func TestFetchEpochsWrap(t *testing.T) {
	require.EqualValues(t, 1, nextFetchEpoch(0))
	require.EqualValues(t, 1, nextFetchEpoch(math.MaxInt32))
}

// TestSessionsFollowRequests compares sessions with sets of partitions that are changed the same way.
func TestSessionsFollowRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSessionsTest(rapid.IntRange(0, 4).Draw(t, "slots"))
		type model struct {
			epoch   int32
			offsets map[int32]int64
		}
		sessions := map[int32]*model{}
		some := rapid.SliceOfNDistinct(rapid.Int32Range(0, 5), 0, 4, rapid.ID[int32])
		ids := func() (out []int32) {
			for id := range sessions {
				out = append(out, id)
			}
			return out
		}
		t.Repeat(map[string]func(*rapid.T){
			"open": func(t *rapid.T) {
				f := namedFetch(0, fetchEpochNew, rapid.IntRange(0, 4).Draw(t, "n"))
				s.begin(f)
				if id := s.create(f); id != 0 {
					require.Nil(t, sessions[id])
					sessions[id] = &model{epoch: 1, offsets: map[int32]int64{}}
					for _, p := range f.parts {
						sessions[id].offsets[p.partition] = 0
					}
					s.release(f.session)
				}
			},
			"use": func(t *rapid.T) {
				if len(sessions) == 0 {
					t.Skip("none")
				}
				id := rapid.SampledFrom(ids()).Draw(t, "id")
				m := sessions[id]
				f := namedFetch(id, m.epoch, 0)
				for _, p := range some.Draw(t, "named") {
					f.named = append(f.named, fetchPartition{topic: "t", partition: p, offset: int64(m.epoch)})
				}
				for _, p := range some.Draw(t, "forgotten") {
					f.forgotten = append(f.forgotten, fetchKey{topic: "t", partition: p})
				}
				s.begin(f)
				if f.errorCode != 0 { // evicted
					require.Equal(t, kerr.FetchSessionIDNotFound.Code, f.errorCode)
					delete(sessions, id)
					return
				}
				for _, p := range f.named {
					m.offsets[p.partition] = p.offset
				}
				for _, k := range f.forgotten {
					delete(m.offsets, k.partition)
				}
				if len(m.offsets) == 0 {
					require.Nil(t, f.session)
					require.Len(t, f.parts, len(f.named))
					delete(sessions, id)
					return
				}
				m.epoch++
				got := map[int32]int64{}
				for _, p := range f.parts {
					got[p.partition] = p.offset
					if rapid.Bool().Draw(t, "read") {
						p.result.Records = []byte("x")
					}
				}
				require.Equal(t, m.offsets, got)
				require.Len(t, f.parts, len(got))
				s.settle(f)
				s.release(f.session)
			},
			"wrong epoch": func(t *rapid.T) {
				if len(sessions) == 0 {
					t.Skip("none")
				}
				id := rapid.SampledFrom(ids()).Draw(t, "id")
				if code := s.use(id, sessions[id].epoch+1); code != kerr.FetchSessionIDNotFound.Code {
					require.Equal(t, kerr.InvalidFetchSessionEpoch.Code, code)
				}
			},
			"close": func(t *rapid.T) {
				if len(sessions) == 0 {
					t.Skip("none")
				}
				id := rapid.SampledFrom(ids()).Draw(t, "id")
				s.begin(namedFetch(id, fetchEpochFinal, 1))
				require.Equal(t, kerr.FetchSessionIDNotFound.Code, s.use(id, sessions[id].epoch))
				delete(sessions, id)
			},
			"time": func(t *rapid.T) {
				s.time = s.time.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "s")) * time.Second)
			},
			"": func(t *rapid.T) {
				n, partitions := s.count()
				require.LessOrEqual(t, n, s.slots)
				sum := 0
				for _, session := range s.byID {
					sum += len(session.parts)
					require.Len(t, session.index, len(session.parts))
				}
				require.Equal(t, sum, partitions)
			},
		})
	})
}
