#!/bin/sh
# The user that pressline loads as, with the rights that docs/operations.md names, and the one that Grafana reads as.
set -eu
psql --username postgres --dbname presses --set ON_ERROR_STOP=1 --set password="$LOADER_PASSWORD" <<'SQL'
CREATE ROLE loader LOGIN PASSWORD :'password';
GRANT INSERT ON button_presses TO loader;
CREATE TABLE pressline_offsets (
    pipeline text NOT NULL,
    topic text NOT NULL,
    topic_id text NOT NULL,
    "partition" integer NOT NULL,
    next_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    version smallint NOT NULL DEFAULT 1,
    PRIMARY KEY (pipeline, topic, "partition")
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE ON pressline_offsets TO loader;
CREATE ROLE grafana LOGIN PASSWORD :'password';
GRANT SELECT ON button_presses TO grafana;
SQL
