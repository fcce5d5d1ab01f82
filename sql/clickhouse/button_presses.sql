-- The recommended table for button_presses. ClickHouse 23.8 or newer.
-- `_topic`, `_partition` and `_offset` are what exactly once rests on: with them pressline can read from the table itself
-- what of a batch is in it.

CREATE TABLE button_presses
(
    session_id       UUID,
    timestamp        DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    cohort           Nullable(Int32),
    action           LowCardinality(String),
    country_name     LowCardinality(String),
    country_code     LowCardinality(String),
    subdivision_name LowCardinality(String),
    subdivision_code LowCardinality(String),
    city_name        LowCardinality(String),
    latitude         Nullable(Float64) CODEC(ZSTD),
    longitude        Nullable(Float64) CODEC(ZSTD),
    accuracy_km      Nullable(Int32),
    time_zone        LowCardinality(Nullable(String)),
    _topic           LowCardinality(String),
    _partition       Int32,
    _offset          Int64 CODEC(Delta, ZSTD)
)
ENGINE = MergeTree
-- Retention by month is the dropping of a partition: ALTER TABLE button_presses DROP PARTITION 202501.
PARTITION BY toYYYYMM(timestamp)
-- Questions ask for places and kinds of presses over time.
ORDER BY (country_code, action, timestamp)
SETTINGS
    -- A repeated insert is dropped by its token; the window counts all inserts into the table. 0, the default, is none.
    non_replicated_deduplication_window = 1000;

-- ClickHouse answers an insert before it is on disk: after a power cut (not after a crash of the process) the last seconds
-- may be gone although their position has moved. Where that matters more than speed:
--     ALTER TABLE button_presses MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
