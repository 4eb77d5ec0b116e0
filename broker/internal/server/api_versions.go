package server

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

const (
	// softwareVersion is the first version in which clients name themselves, by what softwareName matches (KIP-511).
	softwareVersion = 3
	// minZeroVersion is the first version whose clients can take a feature whose lowest level is 0 (KAFKA-17011); others are not told
	// of such features.
	minZeroVersion = 4
)

var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

func handleApiVersions(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ApiVersionsRequest)
	resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
	if r.Version >= softwareVersion && (!softwareName.MatchString(req.ClientSoftwareName) || !softwareName.MatchString(req.ClientSoftwareVersion)) {
		resp.ErrorCode = kerr.InvalidRequest.Code
		reply(resp)
		return
	}
	r.Conn.software = printable(req.ClientSoftwareName) + " " + printable(req.ClientSoftwareVersion)
	for _, a := range s.apis {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	slices.SortFunc(resp.ApiKeys, func(a, b kmsg.ApiVersionsResponseApiKey) int { return cmp.Compare(a.ApiKey, b.ApiKey) })
	for _, f := range controller.SupportedFeatures() {
		if f.Min == 0 && r.Version < minZeroVersion {
			continue
		}
		sf := kmsg.NewApiVersionsResponseSupportedFeature()
		sf.Name, sf.MinVersion, sf.MaxVersion = f.Name, f.Min, f.Max
		resp.SupportedFeatures = append(resp.SupportedFeatures, sf)
	}
	img := s.ctl.Image()
	for name, level := range img.Features() {
		f := kmsg.NewApiVersionsResponseFinalizedFeature()
		f.Name, f.MinVersionLevel, f.MaxVersionLevel = name, level, level
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, f)
	}
	resp.FinalizedFeaturesEpoch = img.Offset()
	reply(resp)
}

// unsupportedApiVersions answers a version that is not known, in version 0, with the versions that are.
func unsupportedApiVersions(a api) kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(0)
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
	resp.ApiKeys = append(resp.ApiKeys, k)
	return resp
}

// printable shortens what a client calls itself to what a log line can take.
func printable(s string) string {
	s = s[:min(len(s), 64)]
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return "?"
		}
	}
	return s
}
