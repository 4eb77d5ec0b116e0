package differential

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// node is an answer as a tree. A leaf may hold placeholders of ids, which get their names when the whole answer is known.
type node struct {
	name string
	leaf string
	kids []*node
	list bool
}

func (n *node) add(name, leaf string) { n.kids = append(n.kids, &node{name: name, leaf: leaf}) }

// A placeholder is "\x00class\x00value\x00".
func placeholder(class, value string) string { return "\x00" + class + "\x00" + value + "\x00" }

var placeholders = regexp.MustCompile("\x00([a-z]+)\x00([^\x00]*)\x00")

func epochText(e int64) string {
	if e < 0 {
		return strconv.FormatInt(e, 10)
	}
	return placeholder("epoch", strconv.FormatInt(e, 10))
}

func producerText(id int64) string {
	if id < 0 {
		return strconv.FormatInt(id, 10)
	}
	return placeholder("producer", strconv.FormatInt(id, 10))
}

// timeText masks times near now.
func timeText(ms int64) string {
	if d := ms - time.Now().UnixMilli(); d > -4*3600_000 && d < 4*3600_000 {
		return "now"
	}
	return strconv.FormatInt(ms, 10)
}

// names gives ids their names, in the order in which they appear.
type names struct {
	prefix    string // of this run
	port      string // of the broker
	restarted bool   // leader epochs cannot be compared any more
	ids       map[string]map[string]string
}

func newNames(prefix, port string) *names {
	return &names{prefix: prefix, port: port, ids: map[string]map[string]string{}}
}

// call gives an id a name before it appears, if it has none.
func (n *names) call(class, value, name string) {
	if n.ids[class] == nil {
		n.ids[class] = map[string]string{}
	}
	if _, ok := n.ids[class][value]; ok {
		return
	}
	for _, other := range n.ids[class] {
		if other == name { // the topic was deleted and made again
			name += "'"
		}
	}
	n.ids[class][value] = name
}

// known replaces the placeholders in s; an id without a name gets one only if assign is set.
func (n *names) text(s string, assign bool) string {
	s = placeholders.ReplaceAllStringFunc(s, func(p string) string {
		m := placeholders.FindStringSubmatch(p)
		class, value := m[1], m[2]
		if class == "epoch" {
			if n.restarted {
				return "EPOCH"
			}
			return value
		}
		of := n.ids[class]
		if of == nil {
			of = map[string]string{}
			n.ids[class] = of
		}
		name, ok := of[value]
		if !ok {
			if !assign {
				if madeUp.MatchString(value) { // the same for both, so that it orders a list
					return class + "?" + value
				}
				return class + "?"
			}
			name = fmt.Sprintf("%s#%d", class, len(of)+1)
			of[value] = name
		}
		return name
	})
	return strings.ReplaceAll(s, n.prefix, "~")
}

var (
	hexID   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	shortID = regexp.MustCompile(`(^|[^A-Za-z0-9_./-])([A-Za-z0-9_-]{22})($|[^A-Za-z0-9_./-])`)
	madeUp  = regexp.MustCompile(`^..AAAAAAAA`) // an id of the generator
	foreign = regexp.MustCompile(`\bd[0-9a-z]{5}-`)
)

// masked are fields whose values tell nothing that two brokers share, by the name of the response and of the field.
var masked = map[string]bool{
	"Host": true, "Rack": true, "ClusterID": true, "Dir": true, "LogDir": true,
	"Documentation": true, // in our words
	"TotalBytes":    true, "UsableBytes": true, "FinalizedFeaturesEpoch": true, "BrokerEpoch": true,
	"LastFetchTimestamp": true, "LastCaughtUpTimestamp": true,
	"DescribeQuorumResponseTopicPartition.HighWatermark": true, "DescribeQuorumResponseTopicPartitionReplicaState.LogEndOffset": true,
	"DescribeQuorumResponseTopicPartition.LeaderEpoch":      true,
	"ProduceResponseTopicPartitionErrorRecord.ErrorMessage": true, // the words are ours
}

// hostConfigs are configurations whose values belong to a place or to the way in which the two brokers are started.
var hostConfigs = map[string]bool{
	"listeners": true, "advertised.listeners": true, "controller.listener.names": true, "controller.quorum.voters": true,
	"log.dirs": true, "log.dir": true, "process.roles": true, "node.id": true, "broker.id": true,
	"listener.security.protocol.map": true, "group.consumer.assignor.offload.enable": true, "group.share.assignor.offload.enable": true,
	"transaction.state.log.min.isr": true, "share.coordinator.state.topic.min.isr": true,
}

// notServed are the APIs that docs/kafka.md says we do not have.
func notServed(key int16) bool {
	switch {
	case key == 34, key >= 38 && key <= 41, key == 64, key == 80, key == 81, key >= 83 && key <= 89:
		return true
	}
	return false
}

// answerTree makes a tree of an answer.
func answerTree(resp kmsg.Response, port string) *node {
	switch r := resp.(type) {
	case *kmsg.DescribeConfigsResponse:
		for i := range r.Resources {
			r.Resources[i].Configs = slices.DeleteFunc(r.Resources[i].Configs, func(c kmsg.DescribeConfigsResponseResourceConfig) bool {
				return hostConfigs[c.Name] || r.Resources[i].ResourceType == kmsg.ConfigResourceTypeBrokerLogger && c.Name != "root"
			})
			if r.Resources[i].ResourceType == kmsg.ConfigResourceTypeBrokerLogger { // one level for all sequences
				for j := range r.Resources[i].Configs {
					r.Resources[i].Configs[j].Value = nil
				}
			}
		}
	case *kmsg.MetadataResponse:
		for _, t := range r.Topics {
			if t.Topic != nil && strings.HasPrefix(*t.Topic, "__") { // other restarts than those of this sequence raised them
				for i := range t.Partitions {
					t.Partitions[i].LeaderEpoch = -1
				}
			}
		}
	case *kmsg.DescribeClientQuotasResponse:
		if r.Entries != nil && len(r.Entries) == 0 { // like a list that holds what other sequences set
			r.Entries = nil
		}
	case *kmsg.DescribeQuorumResponse: // of the listener of controllers, which ours has none of
		for i := range r.Nodes {
			for j := range r.Nodes[i].Listeners {
				r.Nodes[i].Listeners[j].Port = 0
			}
		}
	case *kmsg.ApiVersionsResponse:
		r.ApiKeys = slices.DeleteFunc(r.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool { return notServed(k.ApiKey) })
	case *kmsg.DescribeLogDirsResponse: // the broker's own topics hold what other sequences did
		for i := range r.Dirs {
			r.Dirs[i].Topics = slices.DeleteFunc(r.Dirs[i].Topics, func(t kmsg.DescribeLogDirsResponseDirTopic) bool {
				return strings.HasPrefix(t.Topic, "__")
			})
		}
	case *kmsg.FetchResponse: // Kafka names a topic again when partitions of another one come between
		var topics []kmsg.FetchResponseTopic
		for _, t := range r.Topics {
			n := slices.IndexFunc(topics, func(o kmsg.FetchResponseTopic) bool { return o.Topic == t.Topic && o.TopicID == t.TopicID })
			if n < 0 {
				topics = append(topics, t)
				continue
			}
			topics[n].Partitions = append(topics[n].Partitions, t.Partitions...)
		}
		r.Topics = topics
	}
	root := &node{}
	structTree(root, reflect.ValueOf(resp).Elem(), port)
	return root
}

func structTree(n *node, x reflect.Value, port string) {
	t := x.Type()
	failed := false
	if f := x.FieldByName("ErrorCode"); f.IsValid() && f.Kind() == reflect.Int16 {
		failed = f.Int() != 0
	}
	for i := range x.NumField() {
		f := t.Field(i)
		switch {
		case !f.IsExported() || f.Name == "Version":
			continue
		case f.Name == "UnknownTags":
			tags, _ := x.Field(i).Interface().(kmsg.Tags)
			tags.Each(func(tag uint32, v []byte) { n.add(fmt.Sprintf("tag%d", tag), fmt.Sprintf("%q", v)) })
			continue
		case failed && (f.Name == "ErrorMessage" || f.Name == "StatusMessage"):
			continue // the words are ours, and more often there
		case masked[f.Name] || masked[t.Name()+"."+f.Name]:
			continue
		}
		n.kids = append(n.kids, valueTree(t.Name(), f.Name, x.Field(i), port))
	}
}

func valueTree(owner, name string, x reflect.Value, port string) *node {
	n := &node{name: name}
	switch x.Kind() {
	case reflect.Pointer:
		if x.IsNil() {
			n.leaf = "null"
			return n
		}
		return valueTree(owner, name, x.Elem(), port)
	case reflect.Struct:
		structTree(n, x, port)
	case reflect.Slice:
		if x.Type().Elem().Kind() == reflect.Uint8 {
			switch {
			case name == "Records" || name == "RecordBatches":
				if x.IsNil() {
					n.leaf = "null"
					return n
				}
				n = readBatches(x.Bytes())
				n.name = name
				if len(n.kids) == 0 {
					n.leaf = "empty"
				}
			case x.IsNil():
				n.leaf = "null"
			default:
				n.leaf = fmt.Sprintf("%q", x.Bytes())
			}
			return n
		}
		if x.Len() == 0 {
			n.leaf = "[]"
			if x.IsNil() {
				n.leaf = "null"
			}
			return n
		}
		switch x.Type().Elem().Kind() {
		case reflect.Struct:
			n.list = name != "Entity"
		case reflect.String: // sets, all of them
			n.list = true
		default:
			n.list = name == "Partitions"
		}
		for i := range x.Len() {
			n.kids = append(n.kids, valueTree(owner, "", x.Index(i), port))
		}
	case reflect.Array:
		id := x.Interface().([16]byte)
		n.leaf = idText(id)
	case reflect.String:
		n.leaf = stringText(owner, name, x.String())
	case reflect.Int64:
		switch {
		case name == "ProducerID":
			n.leaf = producerText(x.Int())
		default:
			n.leaf = timeText(x.Int())
		}
	case reflect.Int16:
		n.leaf = strconv.FormatInt(x.Int(), 10)
		if name == "ErrorCode" {
			n.leaf = codeText(x.Int())
		}
	case reflect.Int32:
		n.leaf = strconv.FormatInt(x.Int(), 10)
		switch {
		case name == "SessionID" && x.Int() != 0:
			n.leaf = placeholder("session", n.leaf)
		case name == "Port" && n.leaf == port:
			n.leaf = "PORT"
		case name == "LeaderEpoch" || name == "PartitionLeaderEpoch" || name == "CurrentLeaderEpoch" || name == "LastFetchedEpoch" ||
			owner == "FetchResponseTopicPartitionDivergingEpoch" && name == "Epoch":
			n.leaf = epochText(x.Int())
		}
	default:
		n.leaf = fmt.Sprint(x.Interface())
	}
	return n
}

func codeText(code int64) string {
	if code == 0 {
		return "0"
	}
	if e := kerr.TypedErrorForCode(int16(code)); e != nil {
		return fmt.Sprintf("%d %s", code, e.Message)
	}
	return strconv.FormatInt(code, 10)
}

func idText(id [16]byte) string {
	if id == [16]byte{} {
		return "zero"
	}
	return placeholder("uuid", uuidText(id))
}

func stringText(owner, name, s string) string {
	s = hexID.ReplaceAllStringFunc(s, func(id string) string { return placeholder("member", id) })
	if name == "Name" || name == "Value" || name == "Documentation" || name == "Feature" {
		return strconv.Quote(s)
	}
	s = shortID.ReplaceAllStringFunc(s, func(m string) string {
		p := shortID.FindStringSubmatch(m)
		if _, err := base64.RawURLEncoding.DecodeString(p[2]); err != nil {
			return m
		}
		return p[1] + placeholder("uuid", p[2]) + p[3]
	})
	if strings.Contains(s, "\x00") {
		return s
	}
	return strconv.Quote(s)
}

// lines gives the canonical text of a tree: one line per leaf. It drops elements of other sequences from lists, and sorts lists.
func (n *names) lines(root *node) []string {
	n.arrange(root)
	var out []string
	n.emit(root, "", &out)
	return out
}

// arrange works from the leaves up: filter, then sort by the text as far as it is known.
func (n *names) arrange(x *node) string {
	if len(x.kids) == 0 {
		return x.name + "=" + n.text(x.leaf, false)
	}
	texts := make(map[*node]string, len(x.kids))
	for _, k := range x.kids {
		texts[k] = n.arrange(k)
	}
	if x.list {
		x.kids = slices.DeleteFunc(x.kids, func(k *node) bool { return foreign.MatchString(texts[k]) })
		slices.SortStableFunc(x.kids, func(a, b *node) int { return strings.Compare(texts[a], texts[b]) })
		if len(x.kids) == 0 {
			x.leaf = "null" // as kmsg reads an empty array
		}
	}
	var b strings.Builder
	b.WriteString(x.name + "{")
	for _, k := range x.kids {
		b.WriteString(texts[k] + ",")
	}
	return b.String() + "}"
}

func (n *names) emit(x *node, path string, out *[]string) {
	if len(x.kids) == 0 {
		if path != "" {
			*out = append(*out, path+" = "+n.text(x.leaf, true))
		}
		return
	}
	seen := map[string]int{}
	for i, k := range x.kids {
		p := path
		if k.name == "" {
			key := n.key(k, i)
			if seen[key]++; seen[key] > 1 {
				key = fmt.Sprintf("%s,%d", key, seen[key])
			}
			p = path + "[" + key + "]"
		} else if p == "" {
			p = k.name
		} else {
			p += "." + k.name
		}
		n.emit(k, p, out)
	}
}

// key names an element of a list by its name, topic, group or partition if it has one, else by its index.
func (n *names) key(x *node, index int) string {
	for _, name := range []string{"Topic", "Group", "GroupID", "Name", "ResourceName", "TransactionalID", "Partition", "TopicID"} {
		for _, k := range x.kids {
			if k.name == name && len(k.kids) == 0 && k.leaf != "null" && k.leaf != "zero" && k.leaf != `""` {
				return strings.Trim(n.text(k.leaf, true), `"`)
			}
		}
	}
	return strconv.Itoa(index)
}

// decode reads an answer. The second result tells what is wrong with its encoding, as text for the comparison.
func decode(req kmsg.Request, body []byte) (kmsg.Response, string) {
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 {
			return resp, "no header"
		}
		if body[0] != 0 {
			return resp, fmt.Sprintf("header with %d tags", body[0])
		}
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		if v, ok := resp.(*kmsg.ApiVersionsResponse); ok { // an answer to a version that is too high has version 0
			v.SetVersion(0)
			if err := v.ReadFrom(body); err == nil {
				return v, "version 0"
			}
		}
		return resp, "not readable"
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, body) {
		return resp, "encoded in another way than by kmsg"
	}
	return resp, ""
}
