package fault

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestARuleHitsAsOftenAsItSays(t *testing.T) {
	p := New()
	p.Add(Rule{Key: kmsg.Metadata, Times: 2, Code: 1})
	p.Add(Rule{Key: kmsg.Metadata, Times: -1, Match: func(r kmsg.Request) bool { return r.GetVersion() == 9 }, Code: 2})
	meta := kmsg.NewPtrMetadataRequest()
	codes := func() (c int16) {
		r, _ := p.Next(meta)
		return r.Code
	}
	require.Equal(t, []int16{1, 1, 0, 0}, []int16{codes(), codes(), codes(), codes()})
	meta.Version = 9
	require.Equal(t, []int16{2, 2}, []int16{codes(), codes()})
	n, changed := p.Seen(kmsg.Metadata)
	require.Equal(t, 6, n)
	p.Clear()
	require.Zero(t, codes())
	<-changed
}

func TestARefusalNamesWhatTheRequestNamed(t *testing.T) {
	produce := kmsg.NewPtrProduceRequest()
	produce.Version = 9
	produce.Topics = []kmsg.ProduceRequestTopic{{Topic: "a", Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 3}, {Partition: 4}}}}
	p := Refuse(produce, kerr.NotLeaderForPartition.Code).(*kmsg.ProduceResponse)
	require.Equal(t, "a", p.Topics[0].Topic)
	require.EqualValues(t, 4, p.Topics[0].Partitions[1].Partition)
	require.Equal(t, kerr.NotLeaderForPartition.Code, p.Topics[0].Partitions[1].ErrorCode)
	require.EqualValues(t, 9, p.Version)

	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Version = 8
	fetch.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g", Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "a", Partitions: []int32{7}}}}}
	o := Refuse(fetch, 14).(*kmsg.OffsetFetchResponse)
	require.Equal(t, "g", o.Groups[0].Group)
	require.EqualValues(t, 14, o.Groups[0].ErrorCode)
	require.EqualValues(t, 7, o.Groups[0].Topics[0].Partitions[0].Partition)

	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKeys = 4, []string{"g", "h"}
	f := Refuse(find, 15).(*kmsg.FindCoordinatorResponse)
	require.Equal(t, "h", f.Coordinators[1].Key)
	require.EqualValues(t, 15, f.Coordinators[1].ErrorCode)

	end := Refuse(kmsg.NewPtrEndTxnRequest(), 51).(*kmsg.EndTxnResponse)
	require.EqualValues(t, 51, end.ErrorCode)
}

// Every kind of answer can be made and encoded.
func TestEveryRequestCanBeRefused(t *testing.T) {
	for key := range kmsg.MaxKey + 1 {
		req := kmsg.RequestForKey(int16(key))
		if req == nil {
			continue
		}
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			require.NotPanics(t, func() { Refuse(req, 1).AppendTo(nil) }, "%s version %d", kmsg.NameForKey(int16(key)), v)
		}
	}
}
