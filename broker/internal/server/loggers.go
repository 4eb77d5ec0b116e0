package server

import (
	"log/slog"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
)

// rootLogger is the name of the only logger: slog has none below it.
const rootLogger = "root"

// Log4j's levels that slog has no names for.
const (
	levelTrace = slog.LevelDebug - 4
	levelFatal = slog.LevelError + 4
)

// parseLevel reads one of log4j's levels.
func parseLevel(name string) (slog.Level, bool) {
	switch name {
	case "TRACE":
		return levelTrace, true
	case "DEBUG":
		return slog.LevelDebug, true
	case "INFO":
		return slog.LevelInfo, true
	case "WARN":
		return slog.LevelWarn, true
	case "ERROR":
		return slog.LevelError, true
	case "FATAL":
		return levelFatal, true
	}
	return 0, false
}

// levelName is log4j's name of a level.
func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "TRACE"
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARN"
	case l < levelFatal:
		return "ERROR"
	}
	return "FATAL"
}

// checkLoggerName tells whether a resource of type BROKER_LOGGER, whose changes are asked for, is this broker.
func (s *Server) checkLoggerName(name string) error {
	switch id, err := strconv.ParseInt(name, 10, 32); {
	case err != nil:
		return errTopicf(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", name)
	case int32(id) != s.cfg.NodeID:
		return errTopicf(kerr.InvalidRequest, "Unexpected node id. Expected %d, but received %s", s.cfg.NodeID, name)
	}
	return nil
}
