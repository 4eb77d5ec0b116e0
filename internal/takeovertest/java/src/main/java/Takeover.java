import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.*;

/**
 * The application that takeover_test.go takes over: orders ("user amount", without a key) counted by user; altogether, in windows
 * and in sessions.
 *
 *     Takeover BROKERS STATE-DIRECTORY GUARANTEE
 *
 * It stops, with a last commit, when standard input ends.
 */
public final class Takeover {
    public static void main(String[] args) throws Exception {
        Serde<String> text = Serdes.String();
        Serde<Long> number = Serdes.Long();
        StreamsBuilder b = new StreamsBuilder();
        KGroupedStream<String, String> byUser = b.stream("orders", Consumed.with(text, text))
            .groupBy((k, v) -> v.split(" ")[0], Grouped.with("by-user", text, text));
        byUser.count(Materialized.as("counts")).toStream().to("counts", Produced.with(text, number));
        byUser.windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofHours(1)))
            .count(Materialized.as("windows")).toStream(Takeover::key).to("windows", Produced.with(text, number));
        byUser.windowedBy(SessionWindows.ofInactivityGapAndGrace(Duration.ofSeconds(20), Duration.ofHours(1)))
            .count(Materialized.as("sessions")).toStream(Takeover::key).to("sessions", Produced.with(text, number));

        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, "shop");
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        p.put(StreamsConfig.STATE_DIR_CONFIG, args[1]);
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, args[2]);
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        p.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        p.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
        p.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 1000);
        // Repartition topics keep what was consumed: a test looks at it.
        p.put(StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 3_600_000);
        KafkaStreams streams = new KafkaStreams(b.build(), p);
        streams.start();
        while (System.in.read() >= 0) {
        }
        if (!streams.close(Duration.ofSeconds(30))) throw new IllegalStateException("the application did not stop");
    }

    static String key(Windowed<String> w, Long count) {
        return "[" + w.key() + "@" + w.window().start() + "/" + w.window().end() + "]";
    }
}
