package controller

import (
	"encoding/binary"
	"math"
)

// Types of resources that have configurations, with the numbers of the protocol.
const (
	ResourceTopic         int8 = 2
	ResourceBroker        int8 = 4 // the name is a node id, or "" for what holds for all brokers
	ResourceBrokerLogger  int8 = 8
	ResourceClientMetrics int8 = 16
	ResourceGroup         int8 = 32
)

// Mechanisms of SCRAM credentials (KIP-554).
const (
	ScramSHA256 int8 = 1
	ScramSHA512 int8 = 2
)

// Endpoint is an address of a broker.
type Endpoint struct {
	Name     string // of the listener
	Host     string
	Port     uint16
	Security int16 // 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL
}

// FeatureRange is the range of levels of a feature that a broker supports.
type FeatureRange struct {
	Name     string
	Min, Max int16
}

// RegisterBrokerRecord makes a broker known, or a new run of one.
type RegisterBrokerRecord struct {
	BrokerID            int32
	Incarnation         TopicID // new with each start of the broker
	BrokerEpoch         int64   // the offset of this record
	Endpoints           []Endpoint
	Features            []FeatureRange
	Rack                *string
	Fenced              bool
	InShutdown          bool
	Directories         []TopicID
	CordonedDirectories []TopicID // nil: not told yet
}

// BrokerRegistrationChangeRecord changes the registration of one run of a broker.
type BrokerRegistrationChangeRecord struct {
	BrokerID            int32
	BrokerEpoch         int64
	Fenced              int8 // -1: unfenced now, 0: as before, 1: fenced now
	InShutdown          int8 // 0: as before, 1: in controlled shutdown
	Directories         []TopicID
	CordonedDirectories []TopicID
}

// UnregisterBrokerRecord forgets a broker.
type UnregisterBrokerRecord struct {
	BrokerID    int32
	BrokerEpoch int64
}

// ConfigRecord sets one configuration of a resource; a nil Value removes it.
type ConfigRecord struct {
	ResourceType int8
	ResourceName string
	Name         string
	Value        *string
}

// FeatureLevelRecord finalizes a feature at a level; 0 turns it off.
type FeatureLevelRecord struct {
	Name  string
	Level int16
}

// ProducerIDsRecord hands a block of producer ids to a broker: everything below NextProducerID is taken.
type ProducerIDsRecord struct {
	BrokerID                    int32
	BrokerEpoch, NextProducerID int64
}

// ScramCredential is what a broker needs to check a password by SCRAM (RFC 5802).
type ScramCredential struct {
	Salt, StoredKey, ServerKey []byte
	Iterations                 int32
}

// UserScramCredentialRecord sets the credential of a user for one mechanism.
type UserScramCredentialRecord struct {
	User      string
	Mechanism int8 // ScramSHA256 or ScramSHA512
	ScramCredential
}

// RemoveUserScramCredentialRecord removes the credential of a user for one mechanism.
type RemoveUserScramCredentialRecord struct {
	User      string
	Mechanism int8
}

// QuotaName is one part of a QuotaEntity: absent (the zero value), the default of all, or a name.
type QuotaName struct {
	Kind QuotaKind
	Name string // of QuotaNamed
}

// QuotaKind says what a QuotaName is.
type QuotaKind uint8

// The kinds of QuotaName.
const (
	QuotaAbsent QuotaKind = iota
	QuotaDefault
	QuotaNamed
)

// QuotaEntity is whom a quota is for (KIP-546): a user, a client id, both, or an address. Comparable.
type QuotaEntity struct{ User, ClientID, IP QuotaName }

// ClientQuotaRecord sets or removes one quota of an entity.
type ClientQuotaRecord struct {
	Entity QuotaEntity
	Key    string
	Value  float64
	Remove bool
}

func (*RegisterBrokerRecord) key() uint64            { return keyRegisterBroker }
func (*BrokerRegistrationChangeRecord) key() uint64  { return keyBrokerRegistrationChange }
func (*UnregisterBrokerRecord) key() uint64          { return keyUnregisterBroker }
func (*ConfigRecord) key() uint64                    { return keyConfig }
func (*FeatureLevelRecord) key() uint64              { return keyFeatureLevel }
func (*ProducerIDsRecord) key() uint64               { return keyProducerIDs }
func (*UserScramCredentialRecord) key() uint64       { return keyUserScramCredential }
func (*RemoveUserScramCredentialRecord) key() uint64 { return keyRemoveScramCredential }
func (*ClientQuotaRecord) key() uint64               { return keyClientQuota }

func (*RegisterBrokerRecord) version() uint64            { return 4 }
func (*UnregisterBrokerRecord) version() uint64          { return 0 }
func (*ConfigRecord) version() uint64                    { return 0 }
func (*FeatureLevelRecord) version() uint64              { return 0 }
func (*ProducerIDsRecord) version() uint64               { return 0 }
func (*UserScramCredentialRecord) version() uint64       { return 0 }
func (*RemoveUserScramCredentialRecord) version() uint64 { return 0 }
func (*ClientQuotaRecord) version() uint64               { return 0 }

// version is the lowest that has the fields in use, as Kafka chooses it.
func (r *BrokerRegistrationChangeRecord) version() uint64 {
	switch {
	case r.CordonedDirectories != nil:
		return 3
	case r.Directories != nil:
		return 2
	case r.InShutdown != 0:
		return 1
	}
	return 0
}

func (r *RegisterBrokerRecord) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.BrokerID))
	dst = append(dst, 0) // not a migrating broker
	dst = append(dst, r.Incarnation[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.BrokerEpoch))
	dst = binary.AppendUvarint(dst, uint64(len(r.Endpoints))+1)
	for _, e := range r.Endpoints {
		dst = appendString(dst, e.Name)
		dst = appendString(dst, e.Host)
		dst = binary.BigEndian.AppendUint16(dst, e.Port)
		dst = binary.BigEndian.AppendUint16(dst, uint16(e.Security))
		dst = append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Features))+1)
	for _, f := range r.Features {
		dst = appendString(dst, f.Name)
		dst = binary.BigEndian.AppendUint16(dst, uint16(f.Min))
		dst = binary.BigEndian.AppendUint16(dst, uint16(f.Max))
		dst = append(dst, 0)
	}
	dst = appendNullableString(dst, r.Rack)
	dst = appendBool(dst, r.Fenced)
	dst = appendBool(dst, r.InShutdown)
	var t tagged
	if len(r.Directories) > 0 {
		t.add(0, appendIDs(nil, r.Directories))
	}
	if r.CordonedDirectories != nil {
		t.add(1, appendIDs(nil, r.CordonedDirectories))
	}
	return t.appendTo(dst)
}

func decodeRegisterBroker(d *decoder, version uint64) Record {
	r := &RegisterBrokerRecord{BrokerID: d.int32()}
	if version >= 2 {
		d.bool() // migrating from ZooKeeper
	}
	r.Incarnation, r.BrokerEpoch = d.id(), d.int64()
	for range d.count(7) {
		r.Endpoints = append(r.Endpoints, Endpoint{Name: d.string(), Host: d.string(), Port: d.uint16(), Security: int16(d.uint16())})
		d.tags(func(uint64, *decoder) {})
	}
	for range d.count(6) {
		r.Features = append(r.Features, FeatureRange{Name: d.string(), Min: int16(d.uint16()), Max: int16(d.uint16())})
		d.tags(func(uint64, *decoder) {})
	}
	r.Rack, r.Fenced = d.nullableString(), d.bool()
	if version >= 1 {
		r.InShutdown = d.bool()
	}
	d.tags(func(tag uint64, v *decoder) {
		switch tag {
		case 0:
			if ids := v.ids(); len(ids) > 0 {
				r.Directories = ids
			}
		case 1:
			r.CordonedDirectories = v.ids()
		}
	})
	return r
}

func (r *BrokerRegistrationChangeRecord) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.BrokerID))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.BrokerEpoch))
	var t tagged
	if r.Fenced != 0 {
		t.add(0, []byte{byte(r.Fenced)})
	}
	if r.InShutdown != 0 {
		t.add(1, []byte{byte(r.InShutdown)})
	}
	if len(r.Directories) > 0 {
		t.add(2, appendIDs(nil, r.Directories))
	}
	if r.CordonedDirectories != nil {
		t.add(3, appendIDs(nil, r.CordonedDirectories))
	}
	return t.appendTo(dst)
}

func decodeRegistrationChange(d *decoder) Record {
	r := &BrokerRegistrationChangeRecord{BrokerID: d.int32(), BrokerEpoch: d.int64()}
	d.tags(func(tag uint64, v *decoder) {
		switch tag {
		case 0:
			r.Fenced = int8(v.byte())
		case 1:
			r.InShutdown = int8(v.byte())
		case 2:
			if ids := v.ids(); len(ids) > 0 {
				r.Directories = ids
			}
		case 3:
			r.CordonedDirectories = v.ids()
		}
	})
	return r
}

func (r *UnregisterBrokerRecord) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.BrokerID))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.BrokerEpoch))
	return append(dst, 0)
}

func (r *ConfigRecord) appendBody(dst []byte) []byte {
	dst = append(dst, byte(r.ResourceType))
	dst = appendString(dst, r.ResourceName)
	dst = appendString(dst, r.Name)
	return append(appendNullableString(dst, r.Value), 0)
}

func (r *FeatureLevelRecord) appendBody(dst []byte) []byte {
	dst = appendString(dst, r.Name)
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Level))
	return append(dst, 0)
}

func (r *ProducerIDsRecord) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.BrokerID))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.BrokerEpoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.NextProducerID))
	return append(dst, 0)
}

func (r *UserScramCredentialRecord) appendBody(dst []byte) []byte {
	dst = appendString(dst, r.User)
	dst = append(dst, byte(r.Mechanism))
	dst = appendBytes(dst, r.Salt)
	dst = appendBytes(dst, r.StoredKey)
	dst = appendBytes(dst, r.ServerKey)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.Iterations))
	return append(dst, 0)
}

func (r *RemoveUserScramCredentialRecord) appendBody(dst []byte) []byte {
	return append(appendString(dst, r.User), byte(r.Mechanism), 0)
}

// The types of entity that quotas know, in the order in which Kafka's tools write them.
const (
	entityUser     = "user"
	entityClientID = "client-id"
	entityIP       = "ip"
)

func (r *ClientQuotaRecord) appendBody(dst []byte) []byte {
	parts := []struct {
		kind string
		name QuotaName
	}{{entityUser, r.Entity.User}, {entityClientID, r.Entity.ClientID}, {entityIP, r.Entity.IP}}
	n := uint64(0)
	for _, p := range parts {
		if p.name.Kind != QuotaAbsent {
			n++
		}
	}
	dst = binary.AppendUvarint(dst, n+1)
	for _, p := range parts {
		switch p.name.Kind {
		case QuotaAbsent:
			continue
		case QuotaDefault:
			dst = append(appendString(dst, p.kind), 0)
		case QuotaNamed:
			dst = appendString(appendString(dst, p.kind), p.name.Name)
		}
		dst = append(dst, 0)
	}
	dst = appendString(dst, r.Key)
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(r.Value))
	return append(appendBool(dst, r.Remove), 0)
}

func decodeClientQuota(d *decoder) Record {
	r := &ClientQuotaRecord{}
	for range d.count(3) {
		kind, name := d.string(), d.nullableString()
		d.tags(func(uint64, *decoder) {})
		q := QuotaName{Kind: QuotaDefault}
		if name != nil {
			q = QuotaName{Kind: QuotaNamed, Name: *name}
		}
		switch kind {
		case entityUser:
			r.Entity.User = q
		case entityClientID:
			r.Entity.ClientID = q
		case entityIP:
			r.Entity.IP = q
		default:
			d.bad = true // Kafka has no other; a quota for nobody in particular would be a quota for all
		}
	}
	r.Key, r.Value, r.Remove = d.string(), d.float64(), d.bool()
	d.tags(func(uint64, *decoder) {})
	return r
}
