package security

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
	"unicode/utf8"
)

// Iterations of SCRAM, as Kafka bounds them.
const (
	MinIterations = 4096
	MaxIterations = 16384
)

// Credential is what is kept of a password for SCRAM (RFC 5802).
type Credential struct {
	Salt, StoredKey, ServerKey []byte
	Iterations                 int
}

// hashOf gives the hash function of a SCRAM mechanism.
func hashOf(mechanism string) func() hash.Hash {
	if mechanism == ScramSHA512 {
		return sha512.New
	}
	return sha256.New
}

// NewCredential makes the credential of a password, with a random salt. It takes milliseconds.
func NewCredential(mechanism, password string, iterations int) (Credential, error) {
	h := hashOf(mechanism)
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(h, password, salt, iterations, h().Size())
	if err != nil {
		return Credential{}, fmt.Errorf("derive the key of a password: %w", err)
	}
	return SaltedCredential(mechanism, salted, salt, iterations), nil
}

// SaltedCredential makes the credential of a password that the client has salted.
func SaltedCredential(mechanism string, salted, salt []byte, iterations int) Credential {
	h := hashOf(mechanism)
	mac := func(text string) []byte {
		m := hmac.New(h, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := h()
	stored.Write(mac("Client Key"))
	return Credential{Salt: salt, StoredKey: stored.Sum(nil), ServerKey: mac("Server Key"), Iterations: iterations}
}

// scramExchange is the server of SCRAM without channel binding (RFC 5802):
//
//	client first   n,a=AUTHZID,n=USER,r=NONCE
//	server first   r=NONCE+MORE,s=SALT,i=ITERATIONS
//	client final   c=BINDING,r=NONCE+MORE,p=PROOF
//	server final   v=SIGNATURE
//
// It takes what Kafka takes: of the client's final nonce only the end counts, as librdkafka before 2.11 puts its own in front twice.
type scramExchange struct {
	mechanism string
	find      func(user, mechanism string) (Credential, bool)

	name        string
	credential  Credential
	clientFirst string // without what comes before the name
	serverFirst string // "" before
	nonce       string
}

func newScram(mechanism string, find func(user, mechanism string) (Credential, bool)) exchange {
	return &scramExchange{mechanism: mechanism, find: find}
}

func (e *scramExchange) user() string { return e.name }

func (e *scramExchange) step(token []byte) (answer []byte, done bool, err error) {
	if e.serverFirst == "" {
		answer, err = e.first(string(token))
		return answer, false, err
	}
	answer, err = e.final(string(token))
	return answer, err == nil, err
}

var (
	errScramFirst = errors.New("malformed first SCRAM message")
	errScramFinal = errors.New("malformed final SCRAM message")
)

func (e *scramExchange) first(message string) ([]byte, error) {
	rest, ok := strings.CutPrefix(message, "n,")
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin with n, (channels are not bound)", errScramFirst)
	}
	as, bare, ok := strings.Cut(rest, ",")
	if as != "" {
		var prefixed bool
		if as, prefixed = strings.CutPrefix(as, "a="); !prefixed || as == "" {
			ok = false
		}
	}
	fields := strings.Split(bare, ",")
	if strings.HasPrefix(bare, "m=") && ok {
		fields = fields[1:] // reserved for extensions, which nobody has
	}
	if !ok || len(fields) < 2 {
		return nil, errScramFirst
	}
	name, isName := strings.CutPrefix(fields[0], "n=")
	nonce, isNonce := strings.CutPrefix(fields[1], "r=")
	if !isName || !isNonce || !printable(nonce) || !extensions(fields[2:]) {
		return nil, errScramFirst
	}
	user, err := saslName(name)
	if err != nil {
		return nil, err
	}
	if e.credential, ok = e.find(user, e.mechanism); !ok {
		return nil, fmt.Errorf("no such user: %q", user)
	}
	if as != "" {
		if id, err := saslName(as); err != nil || id != user {
			return nil, &Failure{Message: "Authentication failed: Client requested an authorization id that is different from username"}
		}
	}
	if e.credential.Iterations < MinIterations {
		return nil, fmt.Errorf("the credential of %q has %d iterations; at least %d are needed", user, e.credential.Iterations, MinIterations)
	}
	e.name, e.clientFirst, e.nonce = user, bare, nonce+rand.Text()
	e.serverFirst = fmt.Sprintf("r=%s,s=%s,i=%d", e.nonce, base64.StdEncoding.EncodeToString(e.credential.Salt), e.credential.Iterations)
	return []byte(e.serverFirst), nil
}

func (e *scramExchange) final(message string) ([]byte, error) {
	at := strings.LastIndex(message, ",p=")
	if at < 0 {
		return nil, errScramFinal
	}
	unproven := message[:at]
	proof, err := base64.StdEncoding.DecodeString(message[at+len(",p="):])
	if err != nil {
		return nil, fmt.Errorf("%w: the proof is not base64", errScramFinal)
	}
	fields := strings.Split(unproven, ",")
	if len(fields) < 2 || !extensions(fields[2:]) {
		return nil, errScramFinal
	}
	binding, isBinding := strings.CutPrefix(fields[0], "c=")
	nonce, isNonce := strings.CutPrefix(fields[1], "r=")
	if _, err := base64.StdEncoding.DecodeString(binding); err != nil || !isBinding || !isNonce || !printable(nonce) {
		return nil, errScramFinal
	}
	if !strings.HasSuffix(nonce, e.nonce) {
		return nil, errors.New("the nonce is another than that of the server")
	}
	h := hashOf(e.mechanism)
	sign := func(key []byte) []byte {
		m := hmac.New(h, key)
		m.Write([]byte(e.clientFirst + "," + e.serverFirst + "," + unproven))
		return m.Sum(nil)
	}
	signature := sign(e.credential.StoredKey)
	if len(proof) != len(signature) {
		return nil, errors.New("the proof has a wrong length")
	}
	clientKey := make([]byte, len(proof))
	subtle.XORBytes(clientKey, proof, signature)
	stored := h()
	stored.Write(clientKey)
	if !hmac.Equal(stored.Sum(nil), e.credential.StoredKey) {
		return nil, fmt.Errorf("the password of %q is wrong", e.name)
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(sign(e.credential.ServerKey))), nil
}

// saslName reads a name in which "=2C" is a comma and "=3D" an equals sign.
func saslName(s string) (string, error) {
	if s == "" || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("%w: the name is empty or not text", errScramFirst)
	}
	name := strings.ReplaceAll(s, "=2C", ",")
	if strings.Contains(strings.ReplaceAll(name, "=3D", ""), "=") {
		return "", fmt.Errorf("%w: the name has an equals sign", errScramFirst)
	}
	return strings.ReplaceAll(name, "=3D", "="), nil
}

// printable tells whether a nonce is one: visible ASCII without commas, which cannot be here.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return s != ""
}

// extensions tells whether fields are LETTERS=VALUE each.
func extensions(fields []string) bool {
	for _, f := range fields {
		name, value, ok := strings.Cut(f, "=")
		if !ok || name == "" || value == "" || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
			return false
		}
	}
	return true
}
