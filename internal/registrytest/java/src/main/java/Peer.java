import io.apicurio.registry.serde.avro.AvroKafkaDeserializer;
import io.apicurio.registry.serde.avro.AvroKafkaSerializer;
import java.util.HexFormat;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;

/** Writes or reads a value of a topic as a Java application does: "write URL TOPIC" prints hex, "read URL TOPIC HEX" prints JSON. */
public class Peer {
    private static final String ORDER = """
        {"type":"record","name":"Order","namespace":"shop","fields":[
          {"name":"id","type":"string"},{"name":"amount","type":"int"}]}""";

    public static void main(String[] args) {
        Map<String, Object> config = Map.of(
            "apicurio.registry.url", args[1],
            "apicurio.registry.auto-register", true,
            "apicurio.registry.artifact-resolver-strategy", "io.apicurio.registry.serde.strategy.TopicIdStrategy");
        if (args[0].equals("write")) {
            try (var serializer = new AvroKafkaSerializer<GenericRecord>()) {
                serializer.configure(config, false);
                GenericRecord order = new GenericData.Record(new Schema.Parser().parse(ORDER));
                order.put("id", "java");
                order.put("amount", 5);
                System.out.println(HexFormat.of().formatHex(serializer.serialize(args[2], order)));
            }
        } else {
            try (var deserializer = new AvroKafkaDeserializer<GenericRecord>()) {
                deserializer.configure(config, false);
                System.out.println(deserializer.deserialize(args[2], HexFormat.of().parseHex(args[3])));
            }
        }
    }
}
