package server

import (
	"bytes"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/security"
)

// maxScramUsers bounds the users that the metadata log may have.
const maxScramUsers = 100_000

func handleAlterUserSCRAMCredentials(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.AlterUserSCRAMCredentialsRequest)
	resp := req.ResponseKind().(*kmsg.AlterUserSCRAMCredentialsResponse)
	s.ctl.Update(func(img *controller.Image) ([]controller.Record, error) {
		var recs []controller.Record
		recs, resp.Results = alterScram(img, req)
		return recs, nil
	}, func(err error) {
		if err != nil {
			for i := range resp.Results {
				if resp.Results[i].ErrorCode == 0 {
					resp.Results[i].ErrorCode, resp.Results[i].ErrorMessage = codeOf(err)
				}
			}
		}
		reply(resp)
	})
}

// alterScram makes the records of what is valid in a request, and the answers of its users. A user may be in it once; what is wrong with
// where it is named first counts before that.
func alterScram(img *controller.Image, req *kmsg.AlterUserSCRAMCredentialsRequest) (
	recs []controller.Record, results []kmsg.AlterUserSCRAMCredentialsResponseResult,
) {
	users := 0
	for range img.ScramUsers() {
		users++
	}
	var order []string
	named := map[string]*scramAlteration{}
	add := func(user string, check func() error, record func() (controller.Record, error)) {
		a := named[user]
		switch {
		case a == nil:
			a = &scramAlteration{record: record}
			named[user], order = a, append(order, user)
			if a.err = check(); user == "" {
				a.err = refusal(kerr.UnacceptableCredential, "Username must not be empty")
			}
		case a.err == nil:
			a.err = refusal(kerr.DuplicateResource, "A user credential cannot be altered twice in the same request")
		}
	}
	for _, d := range req.Deletions {
		add(d.Name, func() error {
			if mechanismName(d.Mechanism) == "" {
				return refusal(kerr.UnsupportedSaslMechanism, "Unknown SCRAM mechanism")
			}
			if _, ok := img.ScramCredential(d.Name, d.Mechanism); !ok {
				return refusal(kerr.ResourceNotFound, "Attempt to delete a user credential that does not exist")
			}
			return nil
		}, func() (controller.Record, error) {
			return &controller.RemoveUserScramCredentialRecord{User: d.Name, Mechanism: d.Mechanism}, nil
		})
	}
	for _, u := range req.Upsertions {
		mechanism := mechanismName(u.Mechanism)
		add(u.Name, func() error {
			switch {
			case mechanism == "":
				return refusal(kerr.UnsupportedSaslMechanism, "Unknown SCRAM mechanism")
			case u.Iterations < security.MinIterations:
				return refusal(kerr.UnacceptableCredential, "Too few iterations")
			case u.Iterations > security.MaxIterations:
				return refusal(kerr.UnacceptableCredential, "Too many iterations")
			case users >= maxScramUsers:
				return refusal(kerr.UnacceptableCredential, "There are too many users")
			}
			users++
			return nil
		}, func() (controller.Record, error) {
			if len(u.SaltedPassword) == 0 {
				return nil, errEmptyKey
			}
			c := security.SaltedCredential(mechanism, u.SaltedPassword, bytes.Clone(u.Salt), int(u.Iterations))
			return &controller.UserScramCredentialRecord{User: u.Name, Mechanism: u.Mechanism, ScramCredential: controller.ScramCredential{
				Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey, Iterations: u.Iterations,
			}}, nil
		})
	}
	for _, user := range order {
		a := named[user]
		var r controller.Record
		if a.err == nil {
			r, a.err = a.record()
		}
		out := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		out.User = user
		switch {
		case a.err == nil:
			recs = append(recs, r)
		case errors.Is(a.err, errEmptyKey):
			out.ErrorCode = kerr.UnknownServerError.Code
		default:
			out.ErrorCode, out.ErrorMessage = codeOf(a.err)
		}
		results = append(results, out)
	}
	return recs, results
}

// scramAlteration is what a request wants of one user, or what is wrong with it.
type scramAlteration struct {
	record func() (controller.Record, error)
	err    error
}

// errEmptyKey is answered as Kafka does, which fails to use an empty key and has no message for it.
var errEmptyKey = errors.New("the salted password is empty")

// mechanismName gives the name of a SCRAM mechanism; "" if there is none of that number.
func mechanismName(number int8) string {
	for name, n := range scramNumbers {
		if n == number {
			return name
		}
	}
	return ""
}

// refusal is an error whose message is exactly what the client gets.
func refusal(k *kerr.Error, message string) error {
	return &controller.Error{Code: k, Message: message}
}
