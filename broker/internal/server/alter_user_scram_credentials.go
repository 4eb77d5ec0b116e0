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

// alterScram makes the records of what is valid in a request, and the answers of its users: a user may be in it once.
func alterScram(img *controller.Image, req *kmsg.AlterUserSCRAMCredentialsRequest) (
	recs []controller.Record, results []kmsg.AlterUserSCRAMCredentialsResponseResult,
) {
	times := map[string]int{}
	for _, d := range req.Deletions {
		times[d.Name]++
	}
	for _, u := range req.Upsertions {
		times[u.Name]++
	}
	users := 0
	for range img.ScramUsers() {
		users++
	}
	add := func(user string, rec func() (controller.Record, error)) {
		out := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		out.User = user
		var err error
		switch n := times[user]; {
		case n == 0:
			return // its answer has been given
		case n > 1:
			err = refusal(kerr.DuplicateResource, "A user credential cannot be altered twice in the same request")
		case user == "":
			err = refusal(kerr.UnacceptableCredential, "Username must not be empty")
		default:
			var r controller.Record
			if r, err = rec(); err == nil {
				recs = append(recs, r)
			}
		}
		times[user] = 0
		if errors.Is(err, errEmptyKey) {
			out.ErrorCode = kerr.UnknownServerError.Code
		} else {
			out.ErrorCode, out.ErrorMessage = codeOf(err)
		}
		results = append(results, out)
	}
	for _, d := range req.Deletions {
		add(d.Name, func() (controller.Record, error) {
			if mechanismName(d.Mechanism) == "" {
				return nil, refusal(kerr.UnsupportedSaslMechanism, "Unknown SCRAM mechanism")
			}
			if _, ok := img.ScramCredential(d.Name, d.Mechanism); !ok {
				return nil, refusal(kerr.ResourceNotFound, "Attempt to delete a user credential that does not exist")
			}
			return &controller.RemoveUserScramCredentialRecord{User: d.Name, Mechanism: d.Mechanism}, nil
		})
	}
	for _, u := range req.Upsertions {
		add(u.Name, func() (controller.Record, error) {
			mechanism := mechanismName(u.Mechanism)
			switch {
			case mechanism == "":
				return nil, refusal(kerr.UnsupportedSaslMechanism, "Unknown SCRAM mechanism")
			case u.Iterations < security.MinIterations:
				return nil, refusal(kerr.UnacceptableCredential, "Too few iterations")
			case u.Iterations > security.MaxIterations:
				return nil, refusal(kerr.UnacceptableCredential, "Too many iterations")
			case len(u.SaltedPassword) == 0:
				return nil, errEmptyKey
			case users >= maxScramUsers:
				return nil, refusal(kerr.UnacceptableCredential, "There are too many users")
			}
			users++
			c := security.SaltedCredential(mechanism, u.SaltedPassword, bytes.Clone(u.Salt), int(u.Iterations))
			return &controller.UserScramCredentialRecord{User: u.Name, Mechanism: u.Mechanism, ScramCredential: controller.ScramCredential{
				Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey, Iterations: u.Iterations,
			}}, nil
		})
	}
	return recs, results
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
