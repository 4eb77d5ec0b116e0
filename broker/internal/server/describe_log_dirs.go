package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

func handleDescribeLogDirs(s *Server, r *Request, reply func(kmsg.Response)) {
	s.background(func() { reply(s.logDirs(r.Msg.(*kmsg.DescribeLogDirsRequest))) }) // it asks the operating system about the disk
}

func (s *Server) logDirs(req *kmsg.DescribeLogDirsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = s.cfg.LogDir
	if s.cfg.DiskSpace != nil {
		total, usable, err := s.cfg.DiskSpace()
		if err != nil {
			s.log.Warn("cannot tell the space of the data directory", "err", err)
		} else {
			dir.TotalBytes, dir.UsableBytes = total, usable
		}
	}
	asked := map[string]map[int32]bool{}
	for _, t := range req.Topics {
		if asked[t.Topic] == nil {
			asked[t.Topic] = map[int32]bool{}
		}
		for _, p := range t.Partitions {
			asked[t.Topic][p] = true
		}
	}
	for _, p := range s.replicas.Partitions() { // in order of topic and partition
		if p.Topic() == controller.MetadataTopic || req.Topics != nil && !asked[p.Topic()][p.ID()] {
			continue
		}
		if n := len(dir.Topics); n == 0 || dir.Topics[n-1].Topic != p.Topic() {
			t := kmsg.NewDescribeLogDirsResponseDirTopic()
			t.Topic = p.Topic()
			dir.Topics = append(dir.Topics, t)
		}
		out := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		out.Partition, out.Size = p.ID(), p.Size()
		out.OffsetLag = max(p.HighWatermark()-p.LogEndOffset(), 0)
		t := &dir.Topics[len(dir.Topics)-1]
		t.Partitions = append(t.Partitions, out)
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp
}
