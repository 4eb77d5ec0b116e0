package controller

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// MetadataVersion is the level of metadata.version that this controller writes records of: 4.3-IV0.
const MetadataVersion = 30

// Names of features (KIP-584).
const (
	FeatureMetadata    = "metadata.version"
	FeatureKRaft       = "kraft.version"
	FeatureTransaction = "transaction.version"
	FeatureGroup       = "group.version"
	FeatureShare       = "share.version"
	FeatureELR         = "eligible.leader.replicas.version"
)

// SupportedFeatures lists what a broker of this version supports, in order of name: Kafka 4.3's features but streams.version,
// whose groups are not served. Kafka's oldest metadata.version is 7, 3.3-IV3.
func SupportedFeatures() []FeatureRange {
	return []FeatureRange{
		{FeatureELR, 0, 1}, {FeatureGroup, 0, 1}, {FeatureKRaft, 0, 1}, {FeatureMetadata, 7, MetadataVersion},
		{FeatureShare, 0, 1}, {FeatureTransaction, 0, 2},
	}
}

// bootstrapFeatures are finalized in a new cluster, and in one of a former version that had none of them, in Kafka's order.
var bootstrapFeatures = []FeatureLevelRecord{
	{FeatureMetadata, MetadataVersion}, {FeatureELR, 1}, {FeatureGroup, 1}, {FeatureShare, 1}, {FeatureTransaction, 2},
}

// Bootstrap makes the records of a new cluster: its features, and what Kafka stores with them, the cluster-wide
// min.insync.replicas, which has to be in the log for KIP-966. A cluster that has a metadata.version has been through it, and an operator may
// have turned features off since, so that it gets none.
func Bootstrap(img *Image, minInsyncReplicas string) []Record {
	if img.Feature(FeatureTransaction) != 0 || img.Feature(FeatureMetadata) != 0 {
		return nil
	}
	var recs []Record
	for _, f := range bootstrapFeatures {
		recs = append(recs, &f)
	}
	return append(recs, &ConfigRecord{ResourceType: ResourceBroker, Name: "min.insync.replicas", Value: &minInsyncReplicas})
}

// Register bootstraps a new cluster, and tells it about a new run of a broker, which is unfenced at once: there is nobody else to
// catch up with. r's epoch is set here.
func (c *Controller) Register(r RegisterBrokerRecord, minInsyncReplicas string, done func(error)) {
	c.Update(func(img *Image) ([]Record, error) {
		recs := Bootstrap(img, minInsyncReplicas)
		r.BrokerEpoch = img.offset + 1 + int64(len(recs))
		r.Fenced, r.Features = true, SupportedFeatures()
		return append(recs, &r, &BrokerRegistrationChangeRecord{BrokerID: r.BrokerID, BrokerEpoch: r.BrokerEpoch, Fenced: -1}), nil
	}, done)
}

// Types of a feature update (KIP-584).
const (
	FeatureUpgrade         int8 = 1
	FeatureSafeDowngrade   int8 = 2
	FeatureUnsafeDowngrade int8 = 3
)

// FeatureUpdate asks for another level of a feature.
type FeatureUpdate struct {
	Name  string
	Level int16
	Type  int8 // FeatureUpgrade ...
}

// UpdateFeatures makes the records that finalize other levels of features, all or none.
func UpdateFeatures(img *Image, node int32, updates []FeatureUpdate) ([]Record, error) {
	var recs []Record
	for _, u := range updates {
		if why := checkFeature(img, node, u); why != "" {
			return nil, refuse(kerr.InvalidUpdateVersion, "The update failed for all features since the following feature had an error: %s", why)
		}
		if img.Feature(u.Name) != u.Level && u.Name != FeatureKRaft {
			recs = append(recs, &FeatureLevelRecord{Name: u.Name, Level: u.Level})
		}
	}
	return recs, nil
}

// checkFeature tells what is wrong with an update, in Kafka's words; "" if nothing is.
func checkFeature(img *Image, node int32, u FeatureUpdate) string {
	invalid := fmt.Sprintf("Invalid update version %d for feature %s. ", u.Level, u.Name)
	now := img.Feature(u.Name)
	i := slices.IndexFunc(SupportedFeatures(), func(f FeatureRange) bool { return f.Name == u.Name })
	switch {
	case u.Type < FeatureUpgrade || u.Type > FeatureUnsafeDowngrade:
		return invalid + "The controller does not support the given upgrade type."
	case u.Level < 0:
		return invalid + "A feature version cannot be less than 0."
	case i < 0:
		return invalid + fmt.Sprintf("Local controller %d does not support this feature.", node)
	}
	f := SupportedFeatures()[i]
	switch {
	case u.Level < f.Min || u.Level > f.Max:
		return invalid + fmt.Sprintf("Local controller %d only supports versions %d-%d", node, f.Min, f.Max)
	case u.Level < now && u.Type == FeatureUpgrade:
		return invalid + "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
	case u.Level > now && u.Type != FeatureUpgrade && u.Name != FeatureKRaft:
		return invalid + "Can't downgrade to a newer version."
	case u.Name == FeatureKRaft && u.Level > 0:
		return invalid + "The quorum of one node has no voters that could change."
	case u.Name == FeatureMetadata && u.Level < now && u.Type == FeatureUnsafeDowngrade:
		return fmt.Sprintf("Unsupported metadata.version downgrade from %d to %d. Unsafe metadata downgrade is not supported in this version.", now, u.Level)
	case u.Name == FeatureMetadata && u.Level < now:
		return fmt.Sprintf("Unsupported metadata.version downgrade from %d to %d. "+
			"Refusing to perform the requested downgrade because it might delete metadata information.", now, u.Level)
	}
	return ""
}
