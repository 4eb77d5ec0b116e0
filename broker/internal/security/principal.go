package security

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
)

// TLSPrincipal is who the client of a TLS connection is: "User:" and the distinguished name of its certificate, as RFC 2253 writes
// it, or Anonymous if it has none.
func TLSPrincipal(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return Anonymous
	}
	return "User:" + distinguishedName(state.PeerCertificates[0].RawSubject)
}

// Attribute types that RFC 2253 gives a short name; all others are written by number, their value as DER in hex.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
}

// rawAttribute keeps the value of an attribute as it is encoded.
type rawAttribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type rawAttributeSET []rawAttribute

// distinguishedName writes a DER name as Java's X500Principal.getName does, which is what ACLs name clients by: the last part
// first, no spaces between parts.
func distinguishedName(raw []byte) string {
	var parts []rawAttributeSET
	if rest, err := asn1.Unmarshal(raw, &parts); err != nil || len(rest) > 0 {
		return ""
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		for j, a := range parts[i] {
			if j > 0 {
				b.WriteByte('+')
			}
			name, known := attributeNames[a.Type.String()]
			value, isText := attributeText(a)
			if !known || !isText {
				if !known {
					name = a.Type.String()
				}
				fmt.Fprintf(&b, "%s=#%s", name, hex.EncodeToString(a.Value.FullBytes))
				continue
			}
			b.WriteString(name)
			b.WriteByte('=')
			escapeAttribute(&b, value)
		}
	}
	return b.String()
}

func attributeText(a rawAttribute) (string, bool) {
	var set pkix.AttributeTypeAndValue
	if _, err := asn1.Unmarshal(a.Value.FullBytes, &set.Value); err != nil {
		return "", false
	}
	s, ok := set.Value.(string)
	return s, ok
}

// escapeAttribute writes a value with the escapes of RFC 2253.
func escapeAttribute(b *strings.Builder, s string) {
	for i := range len(s) {
		c := s[i]
		switch {
		case strings.IndexByte(`,+"\<>;`, c) >= 0, c == '#' && i == 0, c == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
}
