-- At which hour of their own day do people press?
--
-- `clock` says where the hour comes from: the place's time zone; without one its longitude, which is up to some two hours off;
-- with neither the hour is null. A time zone that this server does not know counts as none.
-- `generated` is true for events without a cohort. ClickHouse 23.8 or newer, on the table of sql/clickhouse/button_presses.sql.

CREATE OR REPLACE VIEW presses_by_local_hour AS
WITH zones AS (
    SELECT (cohort IS NULL)::Bool AS generated, session_id, action, country_code AS code, country_name AS name, timestamp,
        longitude, ifNull(toString(time_zone), '') IN (SELECT time_zone FROM system.time_zones) AS has_zone,
        if(has_zone, assumeNotNull(toString(time_zone)), 'UTC') AS zone
    FROM button_presses
), clocks AS (
    SELECT *, multiIf(has_zone, 'time zone', longitude IS NOT NULL, 'longitude', 'unknown') AS clock,
        multiIf(has_zone, toInt32(formatDateTime(timestamp, '%H', zone)),
            longitude IS NOT NULL,
            toInt32(toHour(addMicroseconds(timestamp, toInt64(round(ifNull(longitude, 0) / 15 * 3600000000))), 'UTC')),
            NULL) AS local_hour
    FROM zones
)
SELECT generated, toString(code) AS country_code, toString(min(name)) AS country_name, local_hour, clock, count() AS events,
    countIf(action = 'PressButton') AS presses, uniqExact(session_id) AS sessions
FROM clocks
GROUP BY generated, country_code, local_hour, clock;
