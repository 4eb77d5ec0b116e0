//go:build deps

package deps
import (
 _ "github.com/xdg-go/scram"
 _ "go.yaml.in/yaml/v3"
)
