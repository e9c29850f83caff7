"""Driver for kafka-python. The command line is described in tests/src/records.rs."""

import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

import records


def produce(a):
    producer = KafkaProducer(
        bootstrap_servers=a.bootstrap,
        acks="all",
        enable_idempotence=a.idempotent,
        compression_type=None if a.codec == "none" else a.codec,
        linger_ms=5,
    )
    futures = []
    for index in range(a.count):
        key, value, headers, timestamp = records.record(a.seed, index)
        futures.append(producer.send(a.topic, key=key, value=value, headers=headers,
                                     timestamp_ms=timestamp, partition=index % a.partitions))
    producer.flush(timeout=60)
    for future in futures:
        future.get(timeout=60)
    producer.close()
    print(f"count={a.count}")


def read(consumer, a):
    lines = {}
    deadline = time.monotonic() + 60
    while len(lines) < a.count:
        if time.monotonic() > deadline:
            raise SystemExit(f"read {len(lines)} of {a.count} records in 60 s")
        for batch in consumer.poll(timeout_ms=500, max_records=a.count - len(lines)).values():
            for m in batch:
                at = (m.partition, m.offset)
                lines[at] = records.line(*at, m.timestamp, m.key, m.value, m.headers)
    return lines


def consume(a):
    consumer = KafkaConsumer(bootstrap_servers=a.bootstrap, enable_auto_commit=False)
    partitions = [TopicPartition(a.topic, p) for p in range(a.partitions)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    records.report(read(consumer, a))
    consumer.close()


def group(a):
    consumer = KafkaConsumer(bootstrap_servers=a.bootstrap, group_id=a.group,
                             enable_auto_commit=False, auto_offset_reset="earliest")
    consumer.subscribe([a.topic])
    lines = read(consumer, a)
    ends = {}
    for partition, offset in lines:
        ends[partition] = max(ends.get(partition, 0), offset + 1)
    consumer.commit({TopicPartition(a.topic, p): OffsetAndMetadata(o, "", -1)
                     for p, o in ends.items()})
    consumer.close()
    records.report(lines)


if __name__ == "__main__":
    options = records.arguments()
    {"produce": produce, "consume": consume, "group": group}[options.mode](options)
