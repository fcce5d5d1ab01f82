#!/usr/bin/env bash
# Guess:     A producer that waits for a slow broker costs next to nothing, the less the fewer records there are.
# Happens:   librdkafka's idempotent producer sends at most five batches of a partition that are not acknowledged. While it waits for the
#            first of them and one more batch is due, its thread asks for the time and polls without a pause: up to a core, for a hundred
#            small records a second, until the broker answers. The same records without idempotence take a thirtieth. The broker that is
#            slow because the machine is busy gets slower by it.
# Versions:  confluent-kafka 2.15.0 (PyPI; librdkafka 2.15.0), its own mock broker that answers after half a second
# pressline: the web app lets records linger long enough that five batches outlast a usual answer; a relay's transaction seldom has six
#            batches of a partition.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install confluent-kafka==2.15.0
run_python <<'END'
import time

import confluent_kafka


def cores(idempotent, answer_ms):
    """Of one producer of 100 records a second to one partition, for six seconds."""
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": "none:9092",
            "test.mock.num.brokers": 1,
            "test.mock.broker.rtt": answer_ms,
            "enable.idempotence": idempotent,
            "linger.ms": 20,
            "log_level": 0,
        }
    )
    producer.produce("t", b"first")
    producer.flush(30)
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() < began + 6:
        producer.produce("t", b"x" * 50)
        producer.poll(0)
        time.sleep(0.01)
    used = time.process_time() - used
    producer.flush(60)
    return used / 6


print("confluent-kafka", confluent_kafka.version(), "librdkafka", confluent_kafka.libversion()[0])
for answer_ms in (5, 500):
    plain, idempotent = cores(False, answer_ms), cores(True, answer_ms)
    many = "as much CPU" if idempotent < 2 * plain else "several times the CPU"
    print(f"answers after {answer_ms} ms: idempotent takes {many}")
END
as_stated <<'END'
confluent-kafka 2.15.0 librdkafka 2.15.0
answers after 5 ms: idempotent takes as much CPU
answers after 500 ms: idempotent takes several times the CPU
END
