# Moldau's tasks. A bare `make` lists them.

GO       ?= go
FUZZTIME ?= 30s
KILLS    ?= 20
SEEDS    ?= 10000
PKG      ?= ./...
# of make differential: how many, where Apache Kafka listens (and one above), and what has kafka-node
SEQUENCES         ?= 5000
DIFFERENTIAL_PORT ?= 9280
export ACCEPTANCE ?= $(abspath ../shared/acceptance)

.DEFAULT_GOAL := help
.PHONY: help conformance conformance-runtime build test race lint fmt cross fuzz bench bench-broker bench-streams crash kill-etl powercut interop acceptance differential optimize-descriptions takeover registry wordcount ci clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-21s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Variables: PKG=./broker/... (test, race)   FUZZTIME=30s, FUZZ=name (fuzz)   KILLS=20 (crash, kill-etl)   SEEDS=10000 (powercut)   ARGS='-follow' (wordcount)"

build: ## compile the command line to bin/moldau
	$(GO) build -trimpath -o bin/moldau ./cmd/moldau

test: ## run the tests: no network beyond loopback, no Docker, no Java
	$(GO) test $(PKG)

race: ## run the tests with the race detector and the internal invariants
	$(GO) test -race $(PKG)

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt -w these files:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

fmt: ## format every Go file
	gofmt -w .

cross: ## compile everything, tests too, for darwin/arm64 and windows/amd64
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=windows GOARCH=amd64 $(GO) vet ./...

fuzz: ## run every fuzz target for FUZZTIME each (FUZZ=regexp chooses)
	@./.ci/fuzz "$(FUZZTIME)" "$(FUZZ)"

bench: ## run the benchmarks of benchmarks/ and print ratios of one run
	$(GO) run ./benchmarks

bench-broker: ## our broker beside Apache Kafka, ratios of one run: needs Java 17 and Maven (ARGS='-run produce -rounds 3')
	$(GO) run ./benchmarks/broker $(ARGS)

bench-streams: ## our stream runtime beside Kafka Streams, ratios of one run: needs Java 17 and Maven (ARGS='-run tumbling -eos 01')
	$(GO) run ./benchmarks/streams/compare $(ARGS)

crash: ## kill the word count and the server at random moments, at length
	$(GO) test -count=1 -v -timeout 120m ./internal/crashtest -kills $(KILLS)

kill-etl: ## kill the server under franz-go's end-to-end tests (KILLS=50; ARGS='-seed 1 -mean 10s')
	$(GO) run ./internal/crashtest/etl -kills $(KILLS) $(ARGS)

powercut: ## cut the power at random file operations, SEEDS times under a broker, as often under logs, a quarter as often in compactions
	@bash -o pipefail -c "$(GO) test -count=1 -timeout 240m -run '^TestPowerCut' -v ./broker/internal/replica ./broker -powercut.seeds $(SEEDS) | grep -v -e '^=== ' -e ' PASS: TestPowerCut/'"

interop: ## records and the word count against Java's clients and Apache Kafka: needs Java 17 and Maven (PART=clients|wordcount)
	./.ci/interop $(PART)

acceptance: ## franz-go's, librdkafka's and Java's suites against the server (ARGS='kgo kcat java', ACCEPT_RUN=regexp)
	./.ci/acceptance $(ARGS)

conformance: ## Kafka Streams' answers to random topologies: MOLDAU_CONFORMANCE=FILE.jsonl.gz for others, MOLDAU_CONFORMANCE_RESTART=seed with crashes
	$(GO) test -v -count=1 -timeout 30m -run '^TestConformance$$' ./internal/conformance

conformance-runtime: ## ten of each family through an application on a broker (MOLDAU_CONFORMANCE_EACH, _SEED; _BROKERS=host:port for Apache Kafka)
	MOLDAU_CONFORMANCE_EACH=$${MOLDAU_CONFORMANCE_EACH:-10} $(GO) test -v -count=1 -timeout 60m ./internal/conformance/onbroker

differential: ## random requests to Apache Kafka and to the server, answers compared: needs Java 17, Maven (SEQUENCES, ARGS='-theme log -seed 7')
	./internal/differential/run $(DIFFERENTIAL_PORT) -sequences $(SEQUENCES) $(ARGS)

optimize-descriptions: ## what Kafka Streams makes of topologies with optimization, for tests: needs Java 17 and Maven
	cd internal/topo/testdata/optimize && mvn -B -q compile dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/bin/optimize/lib && \
		java -cp '$(CURDIR)/bin/optimize/classes:$(CURDIR)/bin/optimize/lib/*' Optimize >descriptions.new && mv descriptions.new descriptions.txt

takeover: ## our application goes on where one of Kafka Streams stopped: needs Java 17 and Maven (ARGS=-takeover.update)
	mvn -B -q -f internal/takeovertest/java/pom.xml compile dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/bin/takeover/lib
	$(GO) test -count=1 -v -timeout 20m ./internal/takeovertest -takeover.java $(CURDIR)/bin/takeover -takeover.kafka-node $(ACCEPTANCE)/kafka-node $(ARGS)

registry: ## our serdes against a real schema registry, with a Java application beside: needs Java 17 and Maven
	./internal/registrytest/run

wordcount: ## run the example: count the words of a book exactly-once (ARGS='-follow')
	$(GO) run ./examples/wordcount $(ARGS)

ci: ## what a change must pass: .ci/run
	./.ci/run

clean: ## remove what the targets made
	rm -rf bin
