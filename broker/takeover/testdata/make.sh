#!/usr/bin/env bash
# Makes the directories of Apache Kafka in this folder anew:
#
#   clean.tgz    of a node that was stopped     clean.txt    what a client saw before that
#   killed.tgz   of a node that was killed      killed.txt
#
#   KAFKA_NODE=path/to/kafka-node broker/takeover/testdata/make.sh [PORT]
#
# kafka-node start|stop|wipe PORT DIR runs one node with process.roles=broker,controller and log.dirs=DIR/data, adds KAFKA_EXTRA_CONFIG to
# its properties and writes DIR/pid. The index files are kept small, and the internal topics few, so that the archives are.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
port=${1:-9220}
work=$(mktemp -d)
export KAFKA_EXTRA_CONFIG='log.cleaner.backoff.ms=1000
log.initial.task.delay.ms=1000
log.index.size.max.bytes=4096
log.flush.start.offset.checkpoint.interval.ms=1000
offsets.topic.num.partitions=2
transaction.state.log.num.partitions=2
share.coordinator.state.topic.num.partitions=1'
for kind in clean killed; do
	dir=$work/$kind
	"$KAFKA_NODE" start "$port" "$dir"
	(cd "$here/.." && TAKEOVER_FILL=127.0.0.1:$port TAKEOVER_FILL_COMPACTED=1 TAKEOVER_FILL_OUT=$here/$kind.txt go test -count=1 -run TestFill .)
	sleep 3
	if [ $kind = clean ]; then
		"$KAFKA_NODE" stop "$port" "$dir"
	else
		kill -9 "$(cat "$dir/pid")"
	fi
	# The metadata log's indexes do not follow log.index.size.max.bytes, and nobody reads them.
	rm -f "$dir"/data/__cluster_metadata-0/*index
	tar -C "$dir/data" --sort=name --owner=0 --group=0 -czf "$here/$kind.tgz" .
done
rm -rf "$work"
ls -l "$here"
