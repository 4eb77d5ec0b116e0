package share

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// errf makes an error with a code of the protocol.
func errf(code *kerr.Error, format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), code)
}
