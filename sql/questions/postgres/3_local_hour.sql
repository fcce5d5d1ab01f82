-- At which hour of their own day do people press?
--
-- `clock` says where the hour comes from: the place's time zone; without one its longitude, which is up to some two hours off;
-- with neither the hour is null. A time zone that this server does not know counts as none.
-- `generated` is true for events without a cohort. PostgreSQL 13 or newer, on the table of sql/postgres/button_presses.sql.

CREATE OR REPLACE VIEW presses_by_local_hour AS
WITH zones AS MATERIALIZED (
    SELECT name FROM pg_timezone_names
), clocks AS (
    SELECT cohort IS NULL AS generated, session_id, action, country_code, country_name,
        CASE WHEN zones.name IS NOT NULL THEN 'time zone' WHEN longitude IS NOT NULL THEN 'longitude' ELSE 'unknown' END AS clock,
        CASE WHEN zones.name IS NOT NULL THEN extract(hour FROM "timestamp" AT TIME ZONE zones.name)
            ELSE extract(hour FROM "timestamp" AT TIME ZONE 'UTC' + longitude / 15 * interval '1 hour') END::int AS local_hour
    FROM button_presses LEFT JOIN zones ON zones.name = time_zone
)
SELECT generated, country_code::text AS country_code, min(country_name) AS country_name, local_hour, clock, count(*) AS events,
    count(*) FILTER (WHERE action = 'PressButton') AS presses, count(DISTINCT session_id) AS sessions
FROM clocks
GROUP BY generated, country_code, local_hour, clock;
