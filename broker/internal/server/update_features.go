package server

import (
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Versions of UpdateFeatures with a type of the update, and without results for single features.
const (
	featureUpgradeType = 1
	featureNoResults   = 2
)

func handleUpdateFeatures(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.UpdateFeaturesRequest)
	updates := make([]controller.FeatureUpdate, len(req.FeatureUpdates))
	for i, u := range req.FeatureUpdates {
		updates[i] = controller.FeatureUpdate{Name: u.Feature, Level: u.MaxVersionLevel, Type: u.UpgradeType}
		if r.Version < featureUpgradeType {
			updates[i].Type = controller.FeatureUpgrade // Kafka does not look at AllowDowngrade any more
		}
	}
	// A feature that is there twice gets the last level.
	last := make(map[string]controller.FeatureUpdate, len(updates))
	for _, u := range updates {
		last[u.Name] = u
	}
	updates = slices.SortedFunc(maps.Values(last), func(a, b controller.FeatureUpdate) int { return strings.Compare(a.Name, b.Name) })
	op := func(img *controller.Image) ([]controller.Record, error) {
		recs, err := controller.UpdateFeatures(img, s.cfg.NodeID, updates)
		if err != nil || req.ValidateOnly {
			return nil, err
		}
		return recs, nil
	}
	s.ctl.Update(op, func(err error) {
		resp := req.ResponseKind().(*kmsg.UpdateFeaturesResponse)
		resp.ErrorCode, resp.ErrorMessage = codeOf(err)
		if err == nil && r.Version < featureNoResults {
			for _, u := range req.FeatureUpdates {
				o := kmsg.NewUpdateFeaturesResponseResult()
				o.Feature, o.ErrorMessage = u.Feature, kmsg.StringPtr("NONE") // as Kafka calls it
				resp.Results = append(resp.Results, o)
			}
		}
		reply(resp)
	})
}
