import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;

/** Consumes invoices and logs each. */
public class Invoices {
    private static final Logger LOG = LogManager.getLogger(Invoices.class);

    public static void main(String[] arguments) {
        String strings = "org.apache.kafka.common.serialization.StringDeserializer";
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(Map.of(
                "bootstrap.servers", System.getenv("KAFKA"), "group.id", "invoices", "auto.offset.reset", "earliest",
                "key.deserializer", strings, "value.deserializer", strings))) {
            consumer.subscribe(List.of("invoices"));
            System.out.println("PORT 0");
            while (true) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    LOG.info("invoice of {}", record.value());
                    System.out.println("INVOICE " + record.value());
                }
            }
        }
    }
}
