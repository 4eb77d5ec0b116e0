package main

import (
	"iter"
	"strings"
	"unicode"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// Topics and store, declared once: the topology, the test and the rest of the program use the same handles.
var (
	lines      = stream.NewTopic("lines", serde.String, serde.String)      // value: a line of text
	wordCounts = stream.NewTopic("word-counts", serde.String, serde.Int64) // key: a word; value: how often it came so far
	counts     = state.KeyValue("counts", serde.String, serde.Int64)
)

// wordCount counts the words of the topic lines into the topic word-counts.
func wordCount(b *stream.Builder) {
	all := stream.FlatMapValues(stream.From(b, lines), words)
	byWord := stream.GroupBy(all, func(word string) string { return word }, stream.Named("by-word"))
	stream.Count(byWord, counts).ToStream().To(wordCounts)
}

// words splits a line at white space and gives each word in lower case, without punctuation and symbols at its ends.
func words(line string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for field := range strings.FieldsSeq(line) {
			word := strings.TrimFunc(strings.ToLower(field), func(r rune) bool {
				return unicode.IsPunct(r) || unicode.IsSymbol(r)
			})
			if word != "" && !yield(word) {
				return
			}
		}
	}
}

// plainCount counts the words of lines without any stream: what the output topic is compared with.
func plainCount(lines []string) map[string]int64 {
	counted := map[string]int64{}
	for _, line := range lines {
		for word := range words(line) {
			counted[word]++
		}
	}
	return counted
}
