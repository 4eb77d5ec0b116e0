package security

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/xdg-go/scram"
)

func testConfig(t testing.TB) *Config {
	credentials := map[string]Credential{}
	for _, m := range []string{ScramSHA256, ScramSHA512} {
		c, err := NewCredential(m, "apw", MinIterations)
		require.NoError(t, err)
		credentials[m] = c
	}
	return &Config{
		Mechanisms: Mechanisms(),
		Password: func(user string) (string, bool) {
			p, ok := map[string]string{"alice": "apw", "bob": "bpw"}[user]
			return p, ok
		},
		Scram: func(user, mechanism string) (Credential, bool) {
			c, ok := credentials[mechanism]
			return c, ok && user == "alice"
		},
	}
}

var now = time.Unix(1_700_000_000, 0)

// start begins the mechanism.
func start(t testing.TB, cfg *Config, version int16, mechanism string) *Session {
	s := NewSession(cfg)
	mechanisms, code, err := s.Handshake(now, version, mechanism)
	require.NoError(t, err)
	require.Zero(t, code)
	require.Equal(t, []string{Plain, ScramSHA512, ScramSHA256}, mechanisms)
	require.Equal(t, version == 0, s.Bare())
	require.Equal(t, Anonymous, s.Principal())
	return s
}

func TestPlain(t *testing.T) {
	cfg := testConfig(t)
	for token, refused := range map[string]string{
		"\x00alice\x00apw":         "",
		"alice\x00alice\x00apw":    "",
		"bob\x00alice\x00apw":      "Authentication failed: Client requested an authorization id that is different from username",
		"\x00alice\x00bpw":         "Authentication failed: Invalid username or password",
		"\x00mallory\x00apw":       "Authentication failed: Invalid username or password",
		"\x00alice\x00":            "Authentication failed: password not specified",
		"\x00mallory\x00":          "Authentication failed: password not specified",
		"\x00\x00apw":              "Authentication failed: username not specified",
		"alice\x00apw":             "Invalid SASL/PLAIN response: expected 3 tokens, got 2",
		"":                         "Invalid SASL/PLAIN response: expected 3 tokens, got 1",
		"\x00alice\x00apw\x00":     "Invalid SASL/PLAIN response: expected 3 tokens, got 4",
		"\x00alice\x00apw\x00\x00": "Invalid SASL/PLAIN response: expected 3 tokens, got 4",
	} {
		t.Run(fmt.Sprintf("%q", token), func(t *testing.T) {
			s := start(t, cfg, 1, Plain)
			answer, lifetime, err := s.Token(now, []byte(token))
			if refused == "" {
				require.NoError(t, err)
				require.Empty(t, answer)
				require.Zero(t, lifetime)
				require.True(t, s.Done())
				require.Equal(t, "User:alice", s.Principal())
				require.False(t, s.Expired(now.AddDate(100, 0, 0)))
				return
			}
			var f *Failure
			require.ErrorAs(t, err, &f)
			require.Equal(t, refused, f.Message)
			require.False(t, s.Done())
			require.Equal(t, Anonymous, s.Principal())
		})
	}
}

func TestScram(t *testing.T) {
	cfg := testConfig(t)
	for _, mechanism := range []string{ScramSHA256, ScramSHA512} {
		for _, tc := range []struct {
			user, password, as string
			refused            string
		}{
			{"alice", "apw", "", ""},
			{"alice", "apw", "alice", ""},
			{"alice", "wrong", "", "Authentication failed during authentication due to invalid credentials with SASL mechanism " + mechanism},
			{"mallory", "apw", "", "Authentication failed during authentication due to invalid credentials with SASL mechanism " + mechanism},
			{"alice", "apw", "bob", "Authentication failed: Client requested an authorization id that is different from username"},
		} {
			t.Run(fmt.Sprintf("%s/%s as %q with %s", mechanism, tc.user, tc.as, tc.password), func(t *testing.T) {
				s := start(t, cfg, 1, mechanism)
				client, err := scram.HashGeneratorFcn(hashOf(mechanism)).NewClient(tc.user, tc.password, tc.as)
				require.NoError(t, err)
				conv := client.NewConversation()
				token, err := conv.Step("")
				for require.NoError(t, err); !s.Done(); {
					var answer []byte
					if answer, _, err = s.Token(now, []byte(token)); err != nil {
						break
					}
					token, err = conv.Step(string(answer))
					require.NoError(t, err)
				}
				if tc.refused == "" {
					require.NoError(t, err)
					require.True(t, conv.Valid(), "the server knows the password too")
					require.Equal(t, "User:alice", s.Principal())
					return
				}
				var f *Failure
				require.ErrorAs(t, err, &f)
				require.Equal(t, tc.refused, f.Message)
				require.Equal(t, Anonymous, s.Principal())
			})
		}
	}
}

// TestScramTakesTheNonceOfLibrdkafka has a client that puts its nonce in front of the server's, which begins with it already.
func TestScramTakesTheNonceOfLibrdkafka(t *testing.T) {
	cfg := testConfig(t)
	c, _ := cfg.Scram("alice", ScramSHA256)
	final := func(s *Session, nonce func(server string) string) error {
		first, _, err := s.Token(now, []byte("n,,n=alice,r=abc"))
		require.NoError(t, err)
		server := strings.TrimPrefix(strings.Split(string(first), ",")[0], "r=")
		require.True(t, strings.HasPrefix(server, "abc"))
		salted, err := pbkdf2.Key(sha256.New, "apw", c.Salt, c.Iterations, 32)
		require.NoError(t, err)
		mac := func(key []byte, text string) []byte {
			m := hmac.New(sha256.New, key)
			m.Write([]byte(text))
			return m.Sum(nil)
		}
		unproven := "c=biws,r=" + nonce(server)
		proof := mac(salted, "Client Key")
		subtle.XORBytes(proof, proof, mac(c.StoredKey, "n=alice,r=abc,"+string(first)+","+unproven))
		_, _, err = s.Token(now, []byte(unproven+",p="+base64.StdEncoding.EncodeToString(proof)))
		return err
	}
	require.NoError(t, final(start(t, cfg, 1, ScramSHA256), func(s string) string { return s }))
	require.NoError(t, final(start(t, cfg, 1, ScramSHA256), func(s string) string { return "abc" + s }))
	require.ErrorContains(t, final(start(t, cfg, 1, ScramSHA256), func(s string) string { return s[:len(s)-1] }), "nonce")
	require.ErrorContains(t, final(start(t, cfg, 1, ScramSHA256), func(s string) string { return "abc" }), "nonce")
}

func TestMalformedScram(t *testing.T) {
	cfg := testConfig(t)
	for _, first := range []string{
		"", "n", "n,", "n,,", "y,,n=alice,r=abc", "p=tls-unique,,n=alice,r=abc", "n,alice,n=alice,r=abc", "n,a=,n=alice,r=abc", "n,,n=alice", "n,,n=,r=abc",
		"n,,r=abc,n=alice", "n,,n=ali=ce,r=abc", "n,,n=alice,r=", "n,,n=alice,r=a b", "n,,n=alice,r=abc,1=x", "n,,n=alice,r=abc,x", "n,,n=al\x00ice,r=abc",
	} {
		_, _, err := start(t, cfg, 1, ScramSHA256).Token(now, []byte(first))
		require.Error(t, err, "%q", first)
	}
	for _, first := range []string{"n,,n=alice,r=abc,tokenauth=false", "n,,m=x,n=alice,r=abc", "n,a=alice,n=alice,r=abc"} {
		_, _, err := start(t, cfg, 1, ScramSHA256).Token(now, []byte(first))
		require.NoError(t, err, "%q", first)
	}
	for _, final := range []string{"", "c=biws", "c=biws,r=abc", "c=biws,p=AAAA", "r=abc,c=biws,p=AAAA", "c=!,r=abc,p=AAAA", "c=biws,r=abc,p=!"} {
		s := start(t, cfg, 1, ScramSHA256)
		_, _, err := s.Token(now, []byte("n,,n=alice,r=abc"))
		require.NoError(t, err)
		_, _, err = s.Token(now, []byte(final))
		require.ErrorIs(t, err, errScramFinal, "%q", final)
	}
}

func TestScramWithFewIterationsIsRefused(t *testing.T) {
	cfg := testConfig(t)
	weak, err := NewCredential(ScramSHA256, "apw", MinIterations-1)
	require.NoError(t, err)
	cfg.Scram = func(string, string) (Credential, bool) { return weak, true }
	s := start(t, cfg, 1, ScramSHA256)
	_, _, err = s.Token(now, []byte("n,,n=alice,r=abc"))
	require.ErrorContains(t, err, "4095 iterations")
}

func TestOrderOfTheLogin(t *testing.T) {
	cfg := testConfig(t)
	t.Run("versions, handshake, token", func(t *testing.T) {
		s := NewSession(cfg)
		require.NoError(t, s.Versions())
		require.ErrorIs(t, s.Versions(), ErrUnexpected, "once")
		_, code, err := s.Handshake(now, 1, Plain)
		require.NoError(t, err)
		require.Zero(t, code)
		require.ErrorIs(t, s.Versions(), ErrUnexpected)
		_, _, err = s.Token(now, []byte("\x00alice\x00apw"))
		require.NoError(t, err)
		require.NoError(t, s.Versions(), "like any other request")
		_, _, err = s.Token(now, []byte("\x00alice\x00apw"))
		require.ErrorIs(t, err, ErrUnexpected)
		_, code, err = s.Handshake(now, 1, Plain)
		require.NoError(t, err)
		require.Equal(t, kerr.IllegalSaslState.Code, code, "the login does not run out")
		require.True(t, s.Done())
	})
	t.Run("token first", func(t *testing.T) {
		_, _, err := NewSession(cfg).Token(now, []byte("\x00alice\x00apw"))
		require.ErrorIs(t, err, ErrUnexpected)
	})
	t.Run("handshake twice", func(t *testing.T) {
		s := start(t, cfg, 1, Plain)
		_, code, err := s.Handshake(now, 1, Plain)
		require.Error(t, err)
		require.Equal(t, kerr.IllegalSaslState.Code, code)
	})
	t.Run("unknown mechanism", func(t *testing.T) {
		mechanisms, code, err := NewSession(&Config{Mechanisms: []string{ScramSHA256}}).Handshake(now, 1, Plain)
		require.ErrorContains(t, err, `"PLAIN"; the listener has ["SCRAM-SHA-256"]`)
		require.Equal(t, kerr.UnsupportedSaslMechanism.Code, code)
		require.Equal(t, []string{ScramSHA256}, mechanisms)
	})
}

func TestRepeatedLogin(t *testing.T) {
	const life = 3 * time.Second
	login := func(t *testing.T) *Session {
		cfg := testConfig(t)
		cfg.MaxReauth = func() time.Duration { return life }
		s := start(t, cfg, 1, Plain)
		_, lifetime, err := s.Token(now, []byte("\x00alice\x00apw"))
		require.NoError(t, err)
		require.Equal(t, life, lifetime)
		require.False(t, s.Expired(now.Add(life)))
		require.True(t, s.Expired(now.Add(life+1)))
		return s
	}
	t.Run("renews", func(t *testing.T) {
		s := login(t)
		later := now.Add(2 * time.Second)
		_, code, err := s.Handshake(later, 1, Plain)
		require.NoError(t, err)
		require.Zero(t, code)
		require.False(t, s.Done())
		require.Equal(t, "User:alice", s.Principal(), "for what is still being answered")
		_, _, err = s.Token(later, []byte("\x00alice\x00apw"))
		require.NoError(t, err)
		require.False(t, s.Expired(later.Add(life)))
		_, code, err = s.Handshake(later.Add(999*time.Millisecond), 1, Plain)
		require.NoError(t, err)
		require.Equal(t, kerr.IllegalSaslState.Code, code, "too soon")
		require.True(t, s.Done())
		_, code, err = s.Handshake(later.Add(time.Second), 1, Plain)
		require.NoError(t, err)
		require.Zero(t, code)
	})
	t.Run("late", func(t *testing.T) {
		s := login(t)
		_, code, err := s.Handshake(now.Add(time.Hour), 1, Plain)
		require.NoError(t, err)
		require.Zero(t, code)
	})
	t.Run("as another user", func(t *testing.T) {
		s := login(t)
		_, _, err := s.Handshake(now, 1, Plain)
		require.NoError(t, err)
		_, _, err = s.Token(now, []byte("\x00bob\x00bpw"))
		require.EqualError(t, err, "Cannot change principals during re-authentication from User.alice: User.bob")
	})
	t.Run("by another mechanism", func(t *testing.T) {
		s := login(t)
		_, code, err := s.Handshake(now, 1, ScramSHA256)
		require.NoError(t, err)
		require.Zero(t, code)
		require.True(t, s.Expecting())
		_, _, err = s.Token(now, []byte("n,,n=alice,r=abc"))
		require.Error(t, err)
		require.False(t, errors.As(err, new(*Failure)), "there is no answer")
	})
	t.Run("by an unknown mechanism", func(t *testing.T) {
		_, code, err := login(t).Handshake(now, 1, "NOPE")
		require.Error(t, err)
		require.Zero(t, code, "there is no answer")
	})
	t.Run("wrong password", func(t *testing.T) {
		s := login(t)
		_, _, err := s.Handshake(now, 1, Plain)
		require.NoError(t, err)
		_, _, err = s.Token(now, []byte("\x00alice\x00x"))
		require.ErrorAs(t, err, new(*Failure))
		require.False(t, s.Done())
	})
}

func TestDistinguishedNames(t *testing.T) {
	for want, name := range map[string]pkix.RDNSequence{
		"CN=alice": {{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "alice"}}},
		"CN=al\\,ice,OU=dev,O=Moldau\\+Co,C=CZ": {
			{{Type: asn1.ObjectIdentifier{2, 5, 4, 6}, Value: "CZ"}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Moldau+Co"}},
			{{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "dev"}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "al,ice"}},
		},
		"CN=\\ x\\ ":      {{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: " x "}}},
		"CN=\\#x":         {{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "#x"}}},
		"1.2.3.4=#130161": {{{Type: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: "a"}}},
		"":                {},
	} {
		raw, err := asn1.Marshal(name)
		require.NoError(t, err)
		require.Equal(t, want, distinguishedName(raw))
	}
	require.Empty(t, distinguishedName([]byte("garbage")))
}

func TestSelfSigned(t *testing.T) {
	s, err := NewSelfSigned(time.Now(), "localhost", "127.0.0.1")
	require.NoError(t, err)
	client, err := s.ClientAs(pkix.Name{CommonName: "alice", Organization: []string{"Moldau"}})
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(client.Certificates[0].Certificate[0])
	require.NoError(t, err)
	require.Equal(t, "User:CN=alice,O=Moldau", TLSPrincipal(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}))
	require.Equal(t, Anonymous, TLSPrincipal(tls.ConnectionState{}))
}

// FuzzLogin sends arbitrary tokens: they are refused or lead to a user that exists, and nothing but that.
func FuzzLogin(f *testing.F) {
	f.Add(uint8(0), []byte("\x00alice\x00apw"), []byte{})
	f.Add(uint8(1), []byte("n,,n=alice,r=abc"), []byte("c=biws,r=abc,p=AAAA"))
	f.Add(uint8(2), []byte("n,a=bob,n=alice,r=abc,ext=1"), []byte("c=biws,r=abc"))
	f.Add(uint8(2), []byte("p=tls-unique,,n==2C,r="), []byte(""))
	cfg := testConfig(f)
	f.Fuzz(func(t *testing.T, mechanism uint8, first, second []byte) {
		name := Mechanisms()[int(mechanism)%3]
		s := start(t, cfg, int16(mechanism%2), name)
		for _, token := range [][]byte{first, second} {
			answer, _, err := s.Token(now, token)
			if err != nil {
				require.Equal(t, Anonymous, s.Principal())
				return
			}
			require.Less(t, len(answer), len(token)+512)
			if s.Done() {
				require.True(t, name == Plain && bytes.HasSuffix(first, []byte("pw")), "SCRAM needs the nonce of the server")
				return
			}
		}
	})
}
