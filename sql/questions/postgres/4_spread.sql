-- How does use spread over time?
--
-- Days are days in UTC. The last day of the data is mostly a part of one: leave it out where that matters.
-- `generated` is true for events without a cohort. PostgreSQL 13 or newer, on the table of sql/postgres/button_presses.sql and
-- the views of 1_sessions.sql.

-- The first press of each country, subdivision and city (`level`), how many days after the very first one, and how far away.
CREATE OR REPLACE VIEW first_presses AS
WITH levels AS (
    SELECT cohort IS NULL AS generated, level, "timestamp", country_code::text AS country_code, country_name,
        CASE WHEN level <> 'country' THEN subdivision_name ELSE '' END AS subdivision_name,
        CASE WHEN level = 'city' THEN city_name ELSE '' END AS city_name, latitude, longitude
    FROM button_presses CROSS JOIN (VALUES ('country'), ('subdivision'), ('city')) AS levels (level)
    WHERE action = 'PressButton' AND country_code <> '--'
        AND (level = 'country' OR level = 'subdivision' AND subdivision_name <> '' OR level = 'city' AND city_name <> '')
), firsts AS (
    SELECT DISTINCT ON (generated, level, country_code, subdivision_name, city_name) *
    FROM levels
    ORDER BY generated, level, country_code, subdivision_name, city_name, "timestamp"
), origins AS (
    SELECT DISTINCT ON (cohort IS NULL) cohort IS NULL AS generated, "timestamp" AS origin_at,
        latitude AS origin_latitude, longitude AS origin_longitude
    FROM button_presses
    WHERE action = 'PressButton' AND country_code <> '--' AND latitude IS NOT NULL AND longitude IS NOT NULL
    ORDER BY cohort IS NULL, "timestamp"
)
SELECT generated, level, country_code, country_name, subdivision_name, city_name, latitude, longitude, "timestamp" AS first_at,
    (extract(epoch FROM "timestamp" - origin_at) / 86400)::float8 AS days_after_first,
    -- least() skips null: without the CASE what has no coordinates would lie at the other side of the world.
    CASE WHEN latitude IS NOT NULL AND longitude IS NOT NULL AND origin_at IS NOT NULL
        THEN 2 * 6371 * asin(least(1, sqrt(sin(radians(latitude - origin_latitude) / 2) ^ 2
            + cos(radians(latitude)) * cos(radians(origin_latitude)) * sin(radians(longitude - origin_longitude) / 2) ^ 2))) END
        AS distance_km
FROM firsts LEFT JOIN origins USING (generated);

-- A map for each day.
CREATE OR REPLACE VIEW presses_by_day_and_place AS
SELECT cohort IS NULL AS generated, ("timestamp" AT TIME ZONE 'UTC')::date AS day, country_code::text AS country_code,
    min(country_name) AS country_name, subdivision_name, city_name, avg(latitude) AS latitude, avg(longitude) AS longitude,
    count(*) FILTER (WHERE action = 'PressButton') AS presses, count(DISTINCT session_id) AS sessions
FROM button_presses
GROUP BY cohort IS NULL, 2, country_code, subdivision_name, city_name;

-- What each day brought, and how far use had come by its end.
CREATE OR REPLACE VIEW use_by_day AS
WITH days AS (
    SELECT cohort IS NULL AS generated, ("timestamp" AT TIME ZONE 'UTC')::date AS day,
        count(DISTINCT session_id) AS sessions, count(*) FILTER (WHERE action = 'PressButton') AS presses
    FROM button_presses
    GROUP BY 1, 2
), arrivals AS (
    SELECT generated, (first_at AT TIME ZONE 'UTC')::date AS day, count(*) AS new_sessions
    FROM press_sessions
    GROUP BY 1, 2
), firsts AS (
    SELECT generated, (first_at AT TIME ZONE 'UTC')::date AS day,
        count(*) FILTER (WHERE level = 'country') AS new_countries, count(*) FILTER (WHERE level = 'city') AS new_cities
    FROM first_presses
    GROUP BY 1, 2
)
SELECT generated, day, sessions, coalesce(new_sessions, 0) AS new_sessions, presses,
    coalesce(new_countries, 0) AS new_countries, coalesce(new_cities, 0) AS new_cities,
    (sum(coalesce(new_countries, 0)) OVER so_far)::bigint AS countries_so_far,
    (sum(coalesce(new_cities, 0)) OVER so_far)::bigint AS cities_so_far
FROM days LEFT JOIN arrivals USING (generated, day) LEFT JOIN firsts USING (generated, day)
WINDOW so_far AS (PARTITION BY generated ORDER BY day);

-- In how many days does use double? A line through the logarithm of each measure, from the first day to the one with the most;
-- each day weighs as much as it counts. Null where nothing grows; r_squared near 1: it is the growth of an epidemic.
CREATE OR REPLACE VIEW doubling_time AS
WITH measures AS (
    SELECT generated, day, measure, value
    FROM use_by_day CROSS JOIN LATERAL (VALUES ('presses', presses), ('sessions', sessions), ('new sessions', new_sessions))
        AS measures (measure, value)
), peaks AS (
    SELECT DISTINCT ON (generated, measure) generated, measure, day AS peak
    FROM measures
    ORDER BY generated, measure, value DESC, day
), points AS (
    SELECT generated, measure, day, value::float8 AS w, ln(value::float8) / ln(2::float8) AS y,
        (day - min(day) OVER (PARTITION BY generated, measure))::float8 AS x
    FROM measures JOIN peaks USING (generated, measure)
    WHERE day <= peak AND value > 0
), sums AS (
    SELECT generated, measure, min(day) AS from_day, max(day) AS to_day, count(*) AS days,
        sum(w) * sum(w * x * y) - sum(w * x) * sum(w * y) AS xy, sum(w) * sum(w * x * x) - sum(w * x) ^ 2 AS xx,
        sum(w) * sum(w * y * y) - sum(w * y) ^ 2 AS yy
    FROM points
    GROUP BY generated, measure
)
SELECT generated, measure, from_day, to_day, days, CASE WHEN xy > 0 AND xx > 0 THEN xx / xy END AS doubling_days,
    CASE WHEN xx > 0 AND yy > 0 THEN xy ^ 2 / xx / yy END AS r_squared
FROM sums;
