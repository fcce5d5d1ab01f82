-- How reliable are the places?
--
-- How many events could be located to a city, only to a subdivision, only to a country, or not at all: the four add up. The shares
-- are of events located at least that finely. What `place.min_addresses` makes coarser counts as coarser here.
-- `generated` is true for events without a cohort. PostgreSQL 13 or newer, on the table of sql/postgres/button_presses.sql.

-- When another build of the GeoIP database came into use: one row each, by hand or by what exchanges the files. `build` is what you
-- call it, such as '2026-11-01'; the daemon logs it (`built=`) and `pressline places` prints it. Without rows the build is null.
CREATE TABLE IF NOT EXISTS place_builds (
    used_from timestamptz PRIMARY KEY,
    build     text NOT NULL
);

CREATE OR REPLACE VIEW place_reliability AS
WITH located AS (
    SELECT cohort IS NULL AS generated, used.build, accuracy_km, latitude IS NOT NULL AND longitude IS NOT NULL AS has_coordinates,
        coalesce(time_zone, '') <> '' AS has_time_zone,
        CASE WHEN city_name <> '' THEN 3 WHEN subdivision_name <> '' THEN 2 WHEN country_code <> '--' THEN 1 ELSE 0 END AS finest
    FROM button_presses LEFT JOIN LATERAL (
        SELECT build FROM place_builds WHERE used_from <= "timestamp" ORDER BY used_from DESC LIMIT 1
    ) AS used ON true
)
SELECT generated, build, count(*) AS events, count(*) FILTER (WHERE finest = 3) AS to_city,
    count(*) FILTER (WHERE finest = 2) AS to_subdivision, count(*) FILTER (WHERE finest = 1) AS to_country,
    count(*) FILTER (WHERE finest = 0) AS to_nothing,
    count(*) FILTER (WHERE finest = 3)::float8 / count(*) AS share_city,
    count(*) FILTER (WHERE finest >= 2)::float8 / count(*) AS share_subdivision,
    count(*) FILTER (WHERE finest >= 1)::float8 / count(*) AS share_country,
    count(*) FILTER (WHERE has_coordinates)::float8 / count(*) AS share_coordinates,
    count(*) FILTER (WHERE has_time_zone)::float8 / count(*) AS share_time_zone,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY accuracy_km::float8) AS accuracy_km_median
FROM located
GROUP BY generated, build;
