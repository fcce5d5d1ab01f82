#!/bin/sh
# Makes the topics of the example, each once: topics.sh BOOTSTRAP
set -eu

topic() { # NAME CONFIG...
    name=$1
    shift
    configs=
    for config in "$@"; do configs="$configs --config $config"; done
    # shellcheck disable=SC2086
    /opt/kafka/bin/kafka-topics.sh --bootstrap-server "$bootstrap" --create --if-not-exists \
        --topic "$name" --partitions 6 --replication-factor 1 $configs
}
bootstrap=$1

# Raw addresses are personal data: a week at most, wherever they are kept.
topic raw_presses remote.storage.enable=true retention.ms=604800000 local.retention.ms=3600000 segment.ms=600000
topic raw_presses.dead retention.ms=604800000
topic button_presses remote.storage.enable=true retention.ms=31536000000 local.retention.ms=86400000 segment.ms=3600000
topic button_presses.dead retention.ms=604800000
