#!/usr/bin/env bash
# Guess:     Fetch requests name a topic by its id since Kafka 3.1, and the broker forgets a deleted topic's committed offsets. So a
#            consumer notices that its topic was deleted and made again, and auto.offset.reset=earliest reads the new one whole.
# Happens:   When the new topic is there before the consumer asks for metadata, it takes the new id and goes on at its old position:
#            the records below it are never read, no error comes, and the next commit stores the offset of the old topic's count for
#            the new one.
# Versions:  Apache Kafka 4.4.0 (Maven), librdkafka 2.16.0 in confluent-kafka 2.16.1 (PyPI)
# pressline: keeps the topic's id beside each position (commit metadata, pressline_offsets) and refuses a topic with another id.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install confluent-kafka==2.16.1
maven_install org.apache.kafka:kafka_2.13:4.4.0
start_kafka
run_python <<'END'
import os, time

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BROKER = {"bootstrap.servers": os.environ["KAFKA"]}
admin = AdminClient(BROKER)
print("librdkafka", confluent_kafka.libversion()[0])


def create():
    for _ in range(50):
        try:
            return admin.create_topics([NewTopic("orders", 1, 1)])["orders"].result()
        except KafkaException:
            time.sleep(0.05)  # it is still being deleted


def send(count):
    producer = Producer(BROKER)
    for number in range(count):
        producer.produce("orders", str(number).encode())
    producer.flush(30)


def read(consumer, until, patience):
    offsets, end = [], time.monotonic() + patience
    while time.monotonic() < end and (not offsets or offsets[-1] < until):
        message = consumer.poll(0.5)
        if message is not None:
            offsets.append(message.error().name() if message.error() else message.offset())
    return offsets


def committed():
    return consumer.committed([TopicPartition("orders", 0)])[0].offset


create()
send(10)
consumer = Consumer({**BROKER, "group.id": "readers", "auto.offset.reset": "earliest", "enable.auto.commit": False})
consumer.subscribe(["orders"])
print("read of the first topic:", read(consumer, 9, 60))
consumer.commit(asynchronous=False)
print("committed:", committed())
admin.delete_topics(["orders"])["orders"].result()
create()
send(15)
print("read of the second topic:", read(consumer, 14, 60))
print("committed, as the broker has it:", committed())
consumer.commit(asynchronous=False)
print("committed after the next commit:", committed())
consumer.close()
END
as_stated <<'END'
librdkafka 2.16.0
read of the first topic: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
committed: 10
read of the second topic: [10, 11, 12, 13, 14]
committed, as the broker has it: -1001
committed after the next commit: 15
END
