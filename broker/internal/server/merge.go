package server

// fewElements is how many elements are compared each with each, which takes no memory.
const fewElements = 16

// oncePerPartition gives a request's topics in the way Kafka reads them into a map: each topic once, each of its partitions once,
// the last of equal ones winning. It changes the topics in place when there is something to merge.
func oncePerPartition[T, P any, N comparable](topics []T, of func(*T) (name N, partitions *[]P), number func(*P) int32) []T {
	name := func(t *T) N { n, _ := of(t); return n }
	if repeats(topics, name) {
		place := make(map[N]int, len(topics))
		out := topics[:0]
		for i := range topics {
			t := topics[i]
			n, ok := place[name(&t)]
			if !ok {
				place[name(&t)] = len(out)
				out = append(out, t)
				continue
			}
			_, have := of(&out[n])
			_, more := of(&t)
			*have = append((*have)[:len(*have):len(*have)], *more...)
		}
		topics = out
	}
	for i := range topics {
		if _, p := of(&topics[i]); repeats(*p, number) {
			*p = lastOfEach(*p, number)
		}
	}
	return topics
}

// repeats tells whether two elements have the same key.
func repeats[P any, K comparable](list []P, key func(*P) K) bool {
	if len(list) > fewElements {
		seen := make(map[K]struct{}, len(list))
		for i := range list {
			seen[key(&list[i])] = struct{}{}
		}
		return len(seen) < len(list)
	}
	for i := range list {
		for j := range list[:i] {
			if key(&list[i]) == key(&list[j]) {
				return true
			}
		}
	}
	return false
}

// lastOfEach keeps the last of the elements with the same number, in the place of the first.
func lastOfEach[P any](list []P, number func(*P) int32) []P {
	place := make(map[int32]int, len(list))
	out := list[:0]
	for i := range list {
		p := list[i]
		if n, ok := place[number(&p)]; ok {
			out[n] = p
			continue
		}
		place[number(&p)] = len(out)
		out = append(out, p)
	}
	return out
}
