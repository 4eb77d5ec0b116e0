package fault

import (
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Refuse makes the answer to a request that has the error code everywhere where its kind of answer has one: for the whole and for
// each topic, partition, group or resource that the request names.
func Refuse(req kmsg.Request, code int16) kmsg.Response {
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	fill(reflect.ValueOf(resp).Elem(), reflect.ValueOf(req).Elem(), code)
	return resp
}

// fill sets the fields of an answer, or of a part of one, from what the request has under the same name.
func fill(resp, req reflect.Value, code int16) {
	if d := resp.Addr().MethodByName("Default"); d.IsValid() {
		d.Call(nil)
	}
	for i := range resp.NumField() {
		f, name := resp.Field(i), resp.Type().Field(i).Name
		switch {
		case name == "Version" || !f.CanSet():
		case name == "ErrorCode":
			f.SetInt(int64(code))
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			f.Set(elements(f.Type(), like(req, name), code))
		default:
			if from := like(req, name); from.IsValid() && from.Type() == f.Type() {
				f.Set(from)
			}
		}
	}
}

// names are the fields of requests that come back under another name.
var names = map[string][]string{
	"Coordinators":     {"CoordinatorKeys"},
	"Key":              {"CoordinatorKey"},
	"Group":            {"GroupID"},
	"Results":          {"Resources", "Users"},
	"Responses":        {"Topics", "Resources"},
	"FilterResults":    {"Filters"},
	"TransactionState": {"TransactionalIDs"},
}

// like finds the field of the request that comes back as a field of the answer.
func like(req reflect.Value, name string) reflect.Value {
	if req.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	if f := req.FieldByName(name); f.IsValid() {
		return f
	}
	for _, other := range names[name] {
		if f := req.FieldByName(other); f.IsValid() {
			return f
		}
	}
	return reflect.Value{}
}

// elements makes an element of an answer for each of the request.
func elements(t reflect.Type, from reflect.Value, code int16) reflect.Value {
	if !from.IsValid() || from.Kind() != reflect.Slice {
		return reflect.Zero(t)
	}
	out := reflect.MakeSlice(t, from.Len(), from.Len())
	for i := range from.Len() {
		e := out.Index(i)
		fill(e, from.Index(i), code)
		if item := from.Index(i); item.Kind() != reflect.Struct {
			// The request names it by its number or name alone.
			for j := range e.NumField() {
				if f := e.Field(j); f.Type() == item.Type() && e.Type().Field(j).Name != "ErrorCode" {
					f.Set(item)
					break
				}
			}
		}
	}
	return out
}
