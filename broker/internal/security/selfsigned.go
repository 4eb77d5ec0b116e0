package security

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"
)

// SelfSigned are an authority and certificates of it that nobody else trusts, for tests. Its keys exist in memory only.
type SelfSigned struct {
	pool   *x509.CertPool
	ca     *x509.Certificate
	key    *ecdsa.PrivateKey
	server tls.Certificate
}

// NewSelfSigned makes an authority with a certificate for a server that is reached by the names and addresses hosts. The certificates
// are valid for a day before and a year after now.
func NewSelfSigned(now time.Time, hosts ...string) (*SelfSigned, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of a self-signed authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "moldau test authority"},
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of a self-signed authority: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate of a self-signed authority: %w", err)
	}
	s := &SelfSigned{pool: x509.NewCertPool(), ca: ca, key: key}
	s.pool.AddCert(ca)
	server := &x509.Certificate{
		Subject: pkix.Name{CommonName: "moldau"}, NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, h)
		}
	}
	s.server, err = s.sign(server)
	return s, err
}

func (s *SelfSigned) sign(template *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the key of a certificate: %w", err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the serial number of a certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca, &key.PublicKey, s.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Server is the configuration of the server. Clients may have a certificate, of this authority.
func (s *SelfSigned) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.server},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: s.pool,
	}
}

// Client is the configuration of a client without a certificate.
func (s *SelfSigned) Client() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.pool}
}

// ClientAs is the configuration of a client with a certificate for subject.
func (s *SelfSigned) ClientAs(subject pkix.Name) (*tls.Config, error) {
	cert, err := s.sign(&x509.Certificate{
		Subject: subject, NotBefore: s.ca.NotBefore, NotAfter: s.ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, err
	}
	c := s.Client()
	c.Certificates = []tls.Certificate{cert}
	return c, nil
}
