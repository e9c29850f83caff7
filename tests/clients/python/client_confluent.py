"""Driver for confluent-kafka (librdkafka). The command line is described in tests/src/records.rs."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

import records


def produce(a):
    producer = Producer({
        "bootstrap.servers": a.bootstrap,
        "enable.idempotence": a.idempotent,
        "compression.type": a.codec,
        "linger.ms": 5,
        "queue.buffering.max.messages": 1000000,
    })
    failed = []

    def delivered(error, message):
        if error is not None:
            failed.append(str(error))

    for index in range(a.count):
        key, value, headers, timestamp = records.record(a.seed, index)
        producer.produce(a.topic, key=key, value=value, headers=headers, timestamp=timestamp,
                         partition=index % a.partitions, on_delivery=delivered)
        producer.poll(0)
    left = producer.flush(60)
    if failed or left:
        raise SystemExit(f"{len(failed)} failed, {left} undelivered: {failed[:3]}")
    print(f"count={a.count}")


def read(consumer, a):
    lines = {}
    deadline = time.monotonic() + 60
    while len(lines) < a.count:
        if time.monotonic() > deadline:
            raise SystemExit(f"read {len(lines)} of {a.count} records in 60 s")
        for m in consumer.consume(min(1000, a.count - len(lines)), timeout=0.5):
            if m.error() is not None:
                if m.error().code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(m.error())
            at = (m.partition(), m.offset())
            lines[at] = records.line(*at, m.timestamp()[1], m.key(), m.value(), m.headers())
    return lines


def consume(a):
    consumer = Consumer({"bootstrap.servers": a.bootstrap, "group.id": "unused",
                         "enable.auto.commit": False})
    consumer.assign([TopicPartition(a.topic, p, 0) for p in range(a.partitions)])
    records.report(read(consumer, a))
    consumer.close()


def group(a):
    consumer = Consumer({"bootstrap.servers": a.bootstrap, "group.id": a.group,
                         "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.subscribe([a.topic])
    lines = read(consumer, a)
    ends = {}
    for partition, offset in lines:
        ends[partition] = max(ends.get(partition, 0), offset + 1)
    consumer.commit(offsets=[TopicPartition(a.topic, p, o) for p, o in ends.items()],
                    asynchronous=False)
    consumer.close()
    records.report(lines)


if __name__ == "__main__":
    options = records.arguments()
    {"produce": produce, "consume": consume, "group": group}[options.mode](options)
