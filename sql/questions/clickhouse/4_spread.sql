-- How does use spread over time?
--
-- Days are days in UTC. The last day of the data is mostly a part of one: leave it out where that matters.
-- `generated` is true for events without a cohort. ClickHouse 23.8 or newer, on the table of sql/clickhouse/button_presses.sql and
-- the views of 1_sessions.sql.

-- The first press of each country, subdivision and city (`level`), how many days after the very first one, and how far away.
CREATE OR REPLACE VIEW first_presses AS
WITH levels AS (
    SELECT (cohort IS NULL)::Bool AS generated, arrayJoin(['country', 'subdivision', 'city']) AS level, timestamp AS at,
        toString(event.country_code) AS country_code, event.country_name AS name,
        if(level = 'country', '', toString(event.subdivision_name)) AS subdivision_name,
        if(level = 'city', toString(event.city_name), '') AS city_name, latitude AS north, longitude AS east
    FROM button_presses AS event
    WHERE action = 'PressButton' AND event.country_code <> '--'
        AND (level = 'country' OR level = 'subdivision' AND event.subdivision_name <> '' OR level = 'city' AND event.city_name <> '')
), firsts AS (
    SELECT generated, level, country_code, subdivision_name, city_name, min(at) AS first_at,
        toString(argMin(name, at)) AS country_name, argMin(tuple(north, east), at) AS point
    FROM levels
    GROUP BY generated, level, country_code, subdivision_name, city_name
), origins AS (
    SELECT (cohort IS NULL)::Bool AS generated, min(timestamp) AS origin_at,
        argMin(tuple(assumeNotNull(latitude), assumeNotNull(longitude)), timestamp) AS origin, toNullable(count()) AS known
    FROM button_presses
    WHERE action = 'PressButton' AND country_code <> '--' AND latitude IS NOT NULL AND longitude IS NOT NULL
    GROUP BY generated
)
SELECT generated, level, country_code, country_name, subdivision_name, city_name, point.1 AS latitude, point.2 AS longitude,
    first_at, if(known > 0, dateDiff('microsecond', origin_at, first_at) / 86400e6, NULL) AS days_after_first,
    -- least() skips null: without the condition what has no coordinates would lie at the other side of the world.
    if(known > 0 AND latitude IS NOT NULL AND longitude IS NOT NULL, 2 * 6371 * asin(least(1, sqrt(pow(sin(radians(latitude - origin.1) / 2), 2)
        + cos(radians(latitude)) * cos(radians(origin.1)) * pow(sin(radians(longitude - origin.2) / 2), 2)))), NULL)
        AS distance_km
FROM firsts LEFT JOIN origins USING (generated);

-- A map for each day.
CREATE OR REPLACE VIEW presses_by_day_and_place AS
SELECT (cohort IS NULL)::Bool AS generated, toDate(timestamp, 'UTC') AS day, toString(event.country_code) AS country_code,
    toString(min(event.country_name)) AS country_name, toString(event.subdivision_name) AS subdivision_name,
    toString(event.city_name) AS city_name, avg(event.latitude) AS latitude, avg(event.longitude) AS longitude,
    countIf(action = 'PressButton') AS presses, uniqExact(session_id) AS sessions
FROM button_presses AS event
GROUP BY generated, day, country_code, subdivision_name, city_name;

-- What each day brought, and how far use had come by its end.
CREATE OR REPLACE VIEW use_by_day AS
WITH days AS (
    SELECT (cohort IS NULL)::Bool AS generated, toDate(timestamp, 'UTC') AS day, uniqExact(session_id) AS sessions,
        countIf(action = 'PressButton') AS presses
    FROM button_presses
    GROUP BY generated, day
), arrivals AS (
    SELECT generated, toDate(first_at, 'UTC') AS day, count() AS new_sessions
    FROM press_sessions
    GROUP BY generated, day
), firsts AS (
    SELECT generated, toDate(first_at, 'UTC') AS day, countIf(level = 'country') AS new_countries,
        countIf(level = 'city') AS new_cities
    FROM first_presses
    GROUP BY generated, day
)
SELECT generated, day, sessions, ifNull(new_sessions, 0) AS new_sessions, presses,
    ifNull(new_countries, 0) AS new_countries, ifNull(new_cities, 0) AS new_cities,
    sum(ifNull(firsts.new_countries, 0)) OVER (PARTITION BY generated ORDER BY day) AS countries_so_far,
    sum(ifNull(firsts.new_cities, 0)) OVER (PARTITION BY generated ORDER BY day) AS cities_so_far
FROM days LEFT JOIN arrivals USING (generated, day) LEFT JOIN firsts USING (generated, day);

-- In how many days does use double? A line through the logarithm of each measure, from the first day to the one with the most;
-- each day weighs as much as it counts. Null where nothing grows; r_squared near 1: it is the growth of an epidemic.
CREATE OR REPLACE VIEW doubling_time AS
WITH measures AS (
    SELECT generated, day, pair.1 AS measure, pair.2 AS value
    FROM use_by_day
    ARRAY JOIN [('presses', presses), ('sessions', sessions), ('new sessions', new_sessions)] AS pair
), peaks AS (
    SELECT generated, measure, argMin(day, tuple(-toInt64(value), day)) AS peak
    FROM measures
    GROUP BY generated, measure
), points AS (
    SELECT generated, measure, day, toFloat64(value) AS w, log2(value) AS y,
        toFloat64(day - min(day) OVER (PARTITION BY generated, measure)) AS x
    FROM measures JOIN peaks USING (generated, measure)
    WHERE day <= peak AND value > 0
), sums AS (
    SELECT generated, measure, min(day) AS from_day, max(day) AS to_day, count() AS days,
        sum(w) * sum(w * x * y) - sum(w * x) * sum(w * y) AS xy, sum(w) * sum(w * x * x) - pow(sum(w * x), 2) AS xx,
        sum(w) * sum(w * y * y) - pow(sum(w * y), 2) AS yy
    FROM points
    GROUP BY generated, measure
)
SELECT generated, measure, from_day, to_day, days, if(xy > 0 AND xx > 0, xx / xy, NULL) AS doubling_days,
    if(xx > 0 AND yy > 0, xy * xy / xx / yy, NULL) AS r_squared
FROM sums;
