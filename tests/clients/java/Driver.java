import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Driver for the Java client. The command line is described in tests/src/records.rs. */
public final class Driver {
    private static final byte[] ALPHABET =
            "abcdefghijklmnopqrstuvwxyz234567".getBytes(StandardCharsets.US_ASCII);

    private final Map<String, String> options = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        Driver driver = new Driver();
        for (int i = 1; i + 1 < arguments.length; i += 2) {
            driver.options.put(arguments[i].substring(2), arguments[i + 1]);
        }
        switch (arguments[0]) {
            case "produce" -> driver.produce();
            case "consume" -> driver.consume();
            case "group" -> driver.group();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private int number(String name) {
        return Integer.parseInt(options.get(name));
    }

    private void produce() throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", options.get("bootstrap"));
        settings.put("enable.idempotence", options.get("idempotent"));
        settings.put("acks", "all");
        settings.put("compression.type", options.get("codec"));
        settings.put("linger.ms", "5");
        int count = number("count");
        List<Future<?>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int index = 0; index < count; index++) {
                sent.add(producer.send(record(number("seed"), index)));
            }
            producer.flush();
            for (Future<?> one : sent) {
                one.get();
            }
        }
        System.out.println("count=" + count);
    }

    private ProducerRecord<byte[], byte[]> record(long seed, long index) {
        byte[] key = index % 13 == 0 ? null : bytes("k" + seed + "-" + index);
        byte[] value = null;
        if (index % 97 != 0 || index % 13 == 0) {
            value = new byte[(int) (1 + index * 7 % 400)];
            long state = seed * 1_000_003L + index;
            for (int i = 0; i < value.length; i++) {
                state = state * 6364136223846793005L + 1442695040888963407L;
                value[i] = ALPHABET[(int) (state >>> 59)];
            }
        }
        List<Header> headers = new ArrayList<>();
        if (index % 5 != 0) {
            headers.add(new RecordHeader("seed", bytes(Long.toString(seed))));
            headers.add(new RecordHeader("index", bytes(Long.toString(index))));
        }
        long timestamp = 1_700_000_000_000L + seed * 1000 + index * 7;
        int partition = (int) (index % number("partitions"));
        return new ProducerRecord<>(options.get("topic"), partition, timestamp, key, value, headers);
    }

    private void consume() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (int p = 0; p < number("partitions"); p++) {
                partitions.add(new TopicPartition(options.get("topic"), p));
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            report(read(consumer));
        }
    }

    private void group() throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.subscribe(List.of(options.get("topic")));
            TreeMap<Integer, TreeMap<Long, byte[]>> lines = read(consumer);
            Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
            lines.forEach((partition, at) -> ends.put(
                    new TopicPartition(options.get("topic"), partition),
                    new OffsetAndMetadata(at.lastKey() + 1)));
            consumer.commitSync(ends);
            report(lines);
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", options.get("bootstrap"));
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        if (options.containsKey("group")) {
            settings.put("group.id", options.get("group"));
        }
        return new KafkaConsumer<>(
                settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private TreeMap<Integer, TreeMap<Long, byte[]>> read(KafkaConsumer<byte[], byte[]> consumer) {
        TreeMap<Integer, TreeMap<Long, byte[]>> lines = new TreeMap<>();
        int wanted = number("count");
        int count = 0;
        long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (count < wanted) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("read " + count + " of " + wanted + " in 60 s");
            }
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                if (count < wanted) {
                    lines.computeIfAbsent(record.partition(), p -> new TreeMap<>())
                            .put(record.offset(), line(record));
                    count++;
                }
            }
        }
        return lines;
    }

    private static byte[] line(ConsumerRecord<byte[], byte[]> record) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            headers.append(headers.isEmpty() ? "" : ",").append(header.key()).append('=')
                    .append(text(header.value()));
        }
        return bytes(record.partition() + "\t" + record.offset() + "\t" + record.timestamp() + "\t"
                + (record.key() == null ? "-" : text(record.key())) + "\t"
                + (record.value() == null ? "-" : text(record.value())) + "\t" + headers + "\n");
    }

    private static void report(TreeMap<Integer, TreeMap<Long, byte[]>> lines) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        List<String> ranges = new ArrayList<>();
        int count = 0;
        for (Map.Entry<Integer, TreeMap<Long, byte[]>> one : lines.entrySet()) {
            one.getValue().values().forEach(digest::update);
            count += one.getValue().size();
            ranges.add(one.getKey() + ":" + one.getValue().firstKey() + "-"
                    + (one.getValue().lastKey() + 1));
        }
        System.out.println("count=" + count + " ranges=" + String.join(",", ranges) + " sha256="
                + HexFormat.of().formatHex(digest.digest()));
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.ISO_8859_1);
    }
}
