// Package takeovertest takes an application of Kafka Streams over: its group offsets, its changelogs and its repartition topic
// are where the Go application with the same id goes on.
//
//	Java (java/src/main/java/Takeover.java)           Go (shop_test.go)
//	orders -> by-user -> counts, windows, sessions    the same
//	   |  stopped, or killed in the middle               |
//	   '-------- topics shop-*, group shop --------------'
//
// make takeover does it with Java, on a broker in the process and on Apache Kafka. Without Java, TestRestoresWhatJavaWrote takes
// over from testdata/java.jsonl.gz: what the Java application left in its topics once.
//
// The package has no code of its own.
package takeovertest
