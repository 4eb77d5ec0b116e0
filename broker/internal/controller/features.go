package controller

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
