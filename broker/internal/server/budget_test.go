package server

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestBudgetServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(95)
		first, err := b.acquire(t.Context(), 80)
		require.NoError(t, err)
		took := make(chan int64, 3)
		take := func(ctx context.Context, n int64) {
			go func() {
				if got, err := b.acquire(ctx, n); err == nil {
					took <- got
				}
			}()
			synctest.Wait()
		}
		gone, cancel := context.WithCancel(t.Context())
		take(t.Context(), 90)
		take(gone, 50)
		take(t.Context(), 10) // would fit, but does not overtake
		require.Empty(t, took)
		cancel()
		b.release(first)
		require.EqualValues(t, 90, <-took)
		synctest.Wait()
		require.Empty(t, took)
		b.release(90)
		require.EqualValues(t, 10, <-took)
		b.release(10)
		b.checkWhole("test")
		all, err := b.acquire(t.Context(), 1000)
		require.NoError(t, err)
		require.EqualValues(t, 95, all, "more than there is, is all there is")
	})
}

func TestBudgetSharesShrink(t *testing.T) {
	b := newBudget(1000)
	require.EqualValues(t, 10, b.share(10, 1))
	var taken int64
	for range 50 {
		n := b.share(1000, 4)
		require.LessOrEqual(t, n, int64(250))
		require.GreaterOrEqual(t, n, int64(4), "nobody starves")
		taken += n
	}
	b.release(taken + 10)
	b.checkWhole("test")
}
