-- How often and how long do people press in a session?
--
-- A session is a visitor's cookie, which may last for weeks; a visit is a stretch of it without a pause of more than 30 minutes.
-- `generated` is true for events without a cohort. PostgreSQL 13 or newer, on the table of sql/postgres/button_presses.sql.
-- Files 4, 5 and 6 build on the view press_sessions.

-- One row a visit. pressing_seconds: from its first press to its last one; null without a press.
CREATE OR REPLACE VIEW press_visits AS
WITH gaps AS (
    SELECT cohort IS NULL AS generated, session_id, cohort, action, country_code, "timestamp",
        "timestamp" - lag("timestamp") OVER (PARTITION BY session_id, cohort IS NULL ORDER BY "timestamp")
            > interval '30 minutes' AS begins
    FROM button_presses
), numbered AS (
    SELECT *, 1 + count(*) FILTER (WHERE begins) OVER (PARTITION BY session_id, generated ORDER BY "timestamp") AS visit
    FROM gaps
)
SELECT generated, min(cohort) AS cohort, session_id, visit,
    min("timestamp") AS began_at, max("timestamp") AS ended_at, count(*) AS events,
    count(*) FILTER (WHERE action = 'PressButton') AS presses,
    (extract(epoch FROM max("timestamp") FILTER (WHERE action = 'PressButton'))
        - extract(epoch FROM min("timestamp") FILTER (WHERE action = 'PressButton')))::float8 AS pressing_seconds,
    (array_agg(country_code::text ORDER BY "timestamp"))[1] AS country_code
FROM numbered
GROUP BY generated, session_id, visit;

-- One row a session, with the place it was first seen at.
CREATE OR REPLACE VIEW press_sessions AS
WITH visits AS (
    SELECT generated, session_id, count(*) AS visits, sum(pressing_seconds) AS pressing_seconds
    FROM press_visits
    GROUP BY generated, session_id
), sessions AS (
    SELECT cohort IS NULL AS generated, session_id, min(cohort) AS cohort,
        min("timestamp") AS first_at, max("timestamp") AS last_at, count(*) AS events,
        count(*) FILTER (WHERE action = 'PressButton') AS presses,
        (array_agg(country_code::text ORDER BY "timestamp"))[1] AS country_code,
        (array_agg(country_name ORDER BY "timestamp"))[1] AS country_name,
        (array_agg(subdivision_name ORDER BY "timestamp"))[1] AS subdivision_name,
        (array_agg(city_name ORDER BY "timestamp"))[1] AS city_name
    FROM button_presses
    GROUP BY cohort IS NULL, session_id
)
SELECT generated, cohort, session_id, first_at, last_at, visits, events, presses, pressing_seconds,
    country_code, country_name, subdivision_name, city_name
FROM sessions JOIN visits USING (generated, session_id);

-- The answer in one row: presses of a session, and seconds of pressing in a visit that has a press.
CREATE OR REPLACE VIEW presses_per_session AS
WITH of_sessions AS (
    SELECT generated, count(*) AS sessions, count(*) FILTER (WHERE presses > 0) AS sessions_with_a_press,
        sum(presses)::bigint AS presses, avg(presses)::float8 AS presses_mean,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY presses::float8) AS presses_median,
        percentile_cont(0.9) WITHIN GROUP (ORDER BY presses::float8) AS presses_p90,
        max(presses) AS presses_most
    FROM press_sessions
    GROUP BY generated
), of_visits AS (
    SELECT generated, count(*) AS visits, avg(pressing_seconds) AS seconds_mean,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY pressing_seconds) AS seconds_median,
        percentile_cont(0.9) WITHIN GROUP (ORDER BY pressing_seconds) AS seconds_p90
    FROM press_visits
    GROUP BY generated
)
SELECT generated, sessions, visits, sessions_with_a_press, sessions_with_a_press::float8 / sessions AS share_with_a_press,
    presses, presses_mean, presses_median, presses_p90, presses_most, seconds_mean, seconds_median, seconds_p90
FROM of_sessions JOIN of_visits USING (generated);

-- How many sessions have so many presses.
CREATE OR REPLACE VIEW sessions_by_presses AS
SELECT generated, presses, count(*) AS sessions
FROM press_sessions
GROUP BY generated, presses;
