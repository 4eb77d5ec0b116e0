package server

// oncePerPartition gives a request's topics in the way Kafka reads them into a map: each topic once, each of its partitions once,
// the last of equal ones winning. It changes the topics in place when there is something to merge.
func oncePerPartition[T, P any](topics []T, of func(*T) (name string, partitions *[]P), number func(P) int32) []T {
	place := make(map[string]int, len(topics))
	out := topics[:0]
	for i := range topics {
		name, more := of(&topics[i])
		n, ok := place[name]
		if !ok {
			place[name] = len(out)
			out = append(out, topics[i])
			_, p := of(&out[len(out)-1])
			*p = lastOfEach(*p, number)
			continue
		}
		_, have := of(&out[n])
		*have = lastOfEach(append(*have, *more...), number)
	}
	return out
}

// lastOfEach keeps the last of the elements with the same number, in the place of the first.
func lastOfEach[P any](list []P, number func(P) int32) []P {
	place := make(map[int32]int, len(list))
	out := list[:0]
	for _, p := range list {
		if n, ok := place[number(p)]; ok {
			out[n] = p
			continue
		}
		place[number(p)] = len(out)
		out = append(out, p)
	}
	return out
}
