-- How reliable are the places?
--
-- How many events could be located to a city, only to a subdivision, only to a country, or not at all: the four add up. The shares
-- are of events located at least that finely. What `place.min_addresses` makes coarser counts as coarser here.
-- `generated` is true for events without a cohort. ClickHouse 23.8 or newer, on the table of sql/clickhouse/button_presses.sql.

-- When another build of the GeoIP database came into use: one row each, by hand or by what exchanges the files. `build` is what you
-- call it, such as '2026-11-01'; the daemon logs it (`built=`) and `pressline places` prints it. Without rows the build is null.
CREATE TABLE IF NOT EXISTS place_builds
(
    used_from DateTime64(6, 'UTC'),
    build     String
)
ENGINE = MergeTree
ORDER BY used_from;

CREATE OR REPLACE VIEW place_reliability AS
WITH (
    SELECT groupArray((used_from, place_builds.build)) FROM (SELECT used_from, build FROM place_builds ORDER BY used_from) AS place_builds
) AS builds, located AS (
    SELECT (cohort IS NULL)::Bool AS generated, nullIf(arrayLast(one -> one.1 <= timestamp, builds).2, '') AS build, accuracy_km,
        latitude IS NOT NULL AND longitude IS NOT NULL AS has_coordinates, ifNull(time_zone, '') <> '' AS has_time_zone,
        multiIf(city_name <> '', 3, subdivision_name <> '', 2, country_code <> '--', 1, 0) AS finest
    FROM button_presses
)
SELECT generated, build, count() AS events, countIf(finest = 3) AS to_city, countIf(finest = 2) AS to_subdivision,
    countIf(finest = 1) AS to_country, countIf(finest = 0) AS to_nothing,
    countIf(finest = 3) / count() AS share_city, countIf(finest >= 2) / count() AS share_subdivision,
    countIf(finest >= 1) / count() AS share_country, countIf(has_coordinates) / count() AS share_coordinates,
    countIf(has_time_zone) / count() AS share_time_zone, quantileExactInclusiveOrNull(0.5)(accuracy_km) AS accuracy_km_median
FROM located
GROUP BY generated, build;
