package broker

import (
	"context"
	"log/slog"
)

// leveled drops records below a level that may change while the broker runs.
type leveled struct {
	slog.Handler
	level slog.Leveler
}

// withLevel gives a logger whose level is the higher one of its handler's and level.
func withLevel(l *slog.Logger, level slog.Leveler) *slog.Logger {
	return slog.New(leveled{l.Handler(), level})
}

func (h leveled) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level.Level() && h.Handler.Enabled(ctx, level)
}

func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.level}
}

func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.level}
}

// lowestLevel is the level of a logger's handler.
func lowestLevel(l *slog.Logger) slog.Level {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if l.Enabled(context.Background(), level) {
			return level
		}
	}
	return slog.LevelError
}
