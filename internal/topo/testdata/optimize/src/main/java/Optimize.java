import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.time.Duration;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsException;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.internals.InternalTopologyBuilder;

/**
 * Prints what Kafka Streams makes of topologies with each setting of topology.optimization: the description, and the internal topics.
 * Every public method with a StreamsBuilder is a topology; optimize_test.go has the same ones under the same names.
 */
public final class Optimize {
    static final List<String> SETTINGS = List.of("none", "reuse.ktable.source.topics", "merge.repartition.topics",
        "single.store.self.join", "all");

    public static void main(String[] args) throws Exception {
        List<Method> topologies = Arrays.stream(Optimize.class.getMethods())
            .filter(m -> Modifier.isStatic(m.getModifiers()) && Arrays.equals(m.getParameterTypes(), new Class<?>[] {StreamsBuilder.class}))
            .sorted(Comparator.comparing(Method::getName)).toList();
        for (Method m : topologies) {
            String none = text(m, "none");
            for (String setting : SETTINGS) {
                String text = text(m, setting);
                System.out.println("=== " + m.getName() + " " + setting);
                System.out.print(!setting.equals("none") && text.equals(none) ? "as none\n" : text);
            }
        }
    }

    static String text(Method m, String setting) throws Exception {
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, "app");
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "none:1");
        p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        p.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, setting.equals("all") ? StreamsConfig.OPTIMIZE : setting);
        StreamsBuilder b = new StreamsBuilder();
        m.invoke(null, b);
        Topology t;
        try {
            t = b.build(p);
        } catch (StreamsException e) {
            return "Kafka Streams fails: " + e.getMessage().split(" for ")[0] + "\n";
        }
        Field f = Topology.class.getDeclaredField("internalTopologyBuilder");
        f.setAccessible(true);
        InternalTopologyBuilder i = (InternalTopologyBuilder) f.get(t);
        i.rewriteTopology(new StreamsConfig(p));
        i.buildTopology();
        Set<String> repartitions = new TreeSet<>(), changelogs = new TreeSet<>();
        for (InternalTopologyBuilder.TopicsInfo info : i.subtopologyToTopicsInfo().values()) {
            repartitions.addAll(info.repartitionSourceTopics.keySet());
            changelogs.addAll(info.stateChangelogTopics.keySet());
        }
        return sorted(t.describe().toString()) + "repartition topics: " + String.join(", ", repartitions) + "\n"
            + "changelogs: " + String.join(", ", changelogs) + "\n";
    }

    /** Names inside [...] come in the order of hashes; they are printed in the order of the alphabet. */
    static String sorted(String text) {
        StringBuilder out = new StringBuilder();
        for (String line : text.stripTrailing().split("\n")) {
            int from = line.indexOf('['), to = line.indexOf(']');
            if (from >= 0 && to > from) {
                String[] names = line.substring(from + 1, to).split(", ");
                Arrays.sort(names);
                line = line.substring(0, from + 1) + String.join(", ", names) + line.substring(to);
            }
            out.append(line).append('\n');
        }
        return out.toString();
    }

    // --- a table that is its topic

    public static void tableOfATopic(StreamsBuilder b) {
        b.<String, String>table("users", Materialized.as("users-store")).toStream().to("out");
    }

    public static void tableWithoutStore(StreamsBuilder b) {
        b.<String, String>table("users").mapValues(v -> v).toStream().to("out");
    }

    public static void tableJoinOfTables(StreamsBuilder b) {
        KTable<String, String> users = b.table("users", Materialized.as("users-store"));
        KTable<String, String> places = b.table("places", Materialized.as("places-store"));
        users.join(places, Optimize::both, Materialized.as("joined")).toStream().to("out");
    }

    public static void tableForeignKey(StreamsBuilder b) {
        KTable<String, String> orders = b.table("orders", Materialized.as("orders-store"));
        KTable<String, String> users = b.table("users", Materialized.as("users-store"));
        orders.join(users, (java.util.function.Function<String, String>) v -> v, Optimize::both, TableJoined.as("fk"), Materialized.as("joined")).toStream().to("out");
    }

    public static void tableAggregated(StreamsBuilder b) {
        b.<String, String>table("users", Materialized.as("users-store"))
            .groupBy((k, v) -> new org.apache.kafka.streams.KeyValue<>(v, v), Grouped.as("by-value"))
            .reduce(Optimize::both, Optimize::both, Materialized.as("reduced")).toStream().to("out");
    }

    // --- sources of several topics, and of patterns

    public static void severalTopics(StreamsBuilder b) {
        b.<String, String>stream(List.of("zeta", "alpha", "mid-topic")).to("out");
        b.<String, String>stream(List.of("mid-topic", "zeta", "alpha", "zeta")).filter((k, v) -> true).to("out");
    }

    public static void severalTopicsJoinedAndCounted(StreamsBuilder b) {
        KStream<String, String> s = b.stream(List.of("b", "a"));
        KTable<String, String> users = b.table("users", Materialized.as("users-store"));
        s.join(users, Optimize::both).selectKey((k, v) -> v).groupByKey(Grouped.as("by-value")).count(Materialized.as("counts"));
    }

    public static void pattern(StreamsBuilder b) {
        b.<String, String>stream(java.util.regex.Pattern.compile("sensor-.*")).to("out");
        b.<String, String>stream(java.util.regex.Pattern.compile("other-.*")).to("out");
        b.<String, String>stream(java.util.regex.Pattern.compile("sensor-.*")).filter((k, v) -> true).to("out");
    }

    public static void patternWithANewKey(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream(java.util.regex.Pattern.compile("sensor-.*")).selectKey((k, v) -> v);
        s.groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        s.groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    // --- one stream with a new key, aggregated more than once

    public static void twoAggregations(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        s.groupByKey().count(Materialized.as("counts"));
        s.groupByKey().reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void twoAggregationsWithNames(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        s.groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        s.groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void twoAggregationsBehindFilters(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        s.filter((k, v) -> true).groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        s.filter((k, v) -> true).filterNot((k, v) -> false).groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
        s.to("out");
    }

    public static void aggregationBehindMapValues(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        s.mapValues(v -> v).groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        s.groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
        s.filter((k, v) -> true).groupByKey(Grouped.as("third")).count(Materialized.as("more"));
    }

    public static void mapValuesBeforeTheKey(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").mapValues(v -> v).selectKey((k, v) -> v);
        s.groupByKey(Grouped.as("first")).windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ZERO)).count(Materialized.as("windows"));
        s.groupByKey(Grouped.as("second")).windowedBy(SessionWindows.ofInactivityGapAndGrace(Duration.ofMinutes(1), Duration.ZERO)).count(Materialized.as("sessions"));
        s.groupByKey(Grouped.as("third")).count(Materialized.as("counts"));
    }

    public static void oneGroupTwice(StreamsBuilder b) {
        KGroupedStream<String, String> g = b.<String, String>stream("clicks").groupBy((k, v) -> v, Grouped.as("grouped"));
        g.count(Materialized.as("counts"));
        g.reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void twoGroups(StreamsBuilder b) {
        KStream<String, String> s = b.stream("clicks");
        s.groupBy((k, v) -> v, Grouped.as("first")).count(Materialized.as("counts"));
        s.groupBy((k, v) -> v, Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void joinAndAggregation(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        KStream<String, String> views = b.stream("views");
        s.join(views, Optimize::both, JoinWindows.ofTimeDifferenceAndGrace(Duration.ofSeconds(5), Duration.ZERO), named("joined")).to("out");
        s.groupByKey(Grouped.as("grouped")).count(Materialized.as("counts"));
    }

    public static void tableJoinAndAggregation(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        KTable<String, String> users = b.table("users", Materialized.as("users-store"));
        s.groupByKey(Grouped.as("grouped")).count(Materialized.as("counts"));
        s.filter((k, v) -> true).join(users, Optimize::both, Joined.as("joined")).to("out");
    }

    public static void toTableAndAggregation(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        s.toTable(Materialized.as("table")).toStream().to("out");
        s.groupByKey(Grouped.as("grouped")).count(Materialized.as("counts"));
    }

    public static void mergeOfTwoKeys(StreamsBuilder b) {
        KStream<String, String> a = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        KStream<String, String> c = b.<String, String>stream("views").selectKey((k, v) -> v);
        KStream<String, String> m = a.merge(c);
        m.groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        m.groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void mergeOfOneKey(StreamsBuilder b) {
        KStream<String, String> m = b.<String, String>stream("clicks").selectKey((k, v) -> v).merge(b.stream("views"));
        m.groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        m.filter((k, v) -> true).groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void branchesOfOneKey(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        Map<String, KStream<String, String>> br = s.split(Named.as("part-")).branch((k, v) -> true, Branched.as("0")).defaultBranch(Branched.as("rest"));
        br.get("part-0").groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        br.get("part-rest").groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void twoAggregationsBehindOneFilter(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v).filter((k, v) -> true);
        s.groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        s.groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void repartitionedByHand(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        s.repartition(Repartitioned.as("by-hand")).groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        s.groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void cogroupOfOneKey(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        s.groupByKey(Grouped.as("first")).cogroup(Optimize::add).cogroup(s.filter((k, v) -> true).groupByKey(Grouped.as("second")), Optimize::add)
            .aggregate(() -> "", Materialized.as("cogrouped")).toStream().to("out");
    }

    public static void keysInARow(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").map(org.apache.kafka.streams.KeyValue::new);
        s.groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        KStream<String, String> t = s.selectKey((k, v) -> v);
        t.groupByKey(Grouped.as("second")).count(Materialized.as("more"));
        t.groupByKey(Grouped.as("third")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    public static void processedValues(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        s.processValues(Pass::new, Named.as("pass")).groupByKey(Grouped.as("first")).count(Materialized.as("counts"));
        s.groupByKey(Grouped.as("second")).reduce(Optimize::both, Materialized.as("reduced"));
    }

    // --- a stream joined with itself

    public static void selfJoin(StreamsBuilder b) {
        KStream<String, String> s = b.stream("clicks");
        s.join(s, Optimize::both, JoinWindows.ofTimeDifferenceAndGrace(Duration.ofSeconds(5), Duration.ZERO), named("joined")).to("out");
    }

    public static void selfJoinWithoutNames(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").filter((k, v) -> true);
        s.join(s, Optimize::both, JoinWindows.ofTimeDifferenceAndGrace(Duration.ofSeconds(5), Duration.ZERO)).to("out");
    }

    public static void selfJoinLeft(StreamsBuilder b) {
        KStream<String, String> s = b.stream("clicks");
        s.leftJoin(s, Optimize::both, JoinWindows.ofTimeDifferenceAndGrace(Duration.ofSeconds(5), Duration.ZERO), named("joined")).to("out");
    }

    public static void selfJoinOfANewKey(StreamsBuilder b) {
        KStream<String, String> s = b.<String, String>stream("clicks").selectKey((k, v) -> v);
        s.join(s, Optimize::both, JoinWindows.ofTimeDifferenceAndGrace(Duration.ofSeconds(5), Duration.ZERO), named("joined")).to("out");
    }

    public static void selfJoinTwice(StreamsBuilder b) {
        KStream<String, String> s = b.stream("clicks");
        JoinWindows w = JoinWindows.ofTimeDifferenceAndGrace(Duration.ofSeconds(5), Duration.ZERO);
        s.join(s, Optimize::both, w, named("one")).join(s, Optimize::both, w, named("two")).to("out");
        s.join(s, Optimize::both, w, named("three")).to("out");
    }

    static StreamJoined<String, String, String> named(String name) {
        return StreamJoined.<String, String, String>as(name).withName(name).withStoreName(name);
    }

    static String both(String a, String b) { return a + b; }

    static String add(String k, String v, String a) { return a + v; }

    static final class Pass extends ContextualFixedKeyProcessor<String, String, String> {
        public void process(FixedKeyRecord<String, String> r) { context().forward(r); }
    }
}
