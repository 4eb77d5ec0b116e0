package server

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadataVersion is the metadata.version that the metadata log claims: 30 is 4.3-IV0.
const metadataVersion = 30

func handleApiVersions(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ApiVersionsRequest)
	resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
	r.Conn.software = printable(req.ClientSoftwareName) + " " + printable(req.ClientSoftwareVersion)
	for _, a := range s.apis {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	slices.SortFunc(resp.ApiKeys, func(a, b kmsg.ApiVersionsResponseApiKey) int { return cmp.Compare(a.ApiKey, b.ApiKey) })
	// transaction.version is not finalized: a client that sees 2 sends the requests of KIP-890's second part.
	f := kmsg.NewApiVersionsResponseFinalizedFeature()
	f.Name, f.MinVersionLevel, f.MaxVersionLevel = "metadata.version", metadataVersion, metadataVersion
	resp.FinalizedFeatures = append(resp.FinalizedFeatures, f)
	resp.FinalizedFeaturesEpoch = max(s.ctl.Image().Offset(), 0)
	sf := kmsg.NewApiVersionsResponseSupportedFeature()
	sf.Name, sf.MinVersion, sf.MaxVersion = "metadata.version", metadataVersion, metadataVersion
	resp.SupportedFeatures = append(resp.SupportedFeatures, sf)
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
