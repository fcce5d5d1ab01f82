#!/bin/sh
set -eu
clickhouse-client --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" --database presses \
    --queries-file /tables/button_presses.sql
