-- How often and how long do people press in a session?
--
-- A session is a visitor's cookie, which may last for weeks; a visit is a stretch of it without a pause of more than 30 minutes.
-- `generated` is true for events without a cohort. ClickHouse 23.8 or newer, on the table of sql/clickhouse/button_presses.sql.
-- Files 4, 5 and 6 build on the view press_sessions.

-- One row a visit. pressing_seconds: from its first press to its last one; null without a press.
CREATE OR REPLACE VIEW press_visits AS
WITH gaps AS (
    SELECT (cohort IS NULL)::Bool AS generated, session_id, cohort, action, country_code, timestamp AS at,
        -- Of a session's first event this is the whole time since 1970: it begins visit 1.
        dateDiff('microsecond', lagInFrame(timestamp) OVER (PARTITION BY session_id, cohort IS NULL ORDER BY timestamp
            ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), timestamp) > 30 * 60 * 1000000 AS begins
    FROM button_presses
), numbered AS (
    SELECT *, toInt64(sum(begins) OVER (PARTITION BY session_id, generated ORDER BY at)) AS visit
    FROM gaps
)
SELECT generated, min(numbered.cohort) AS cohort, session_id, visit,
    min(at) AS began_at, max(at) AS ended_at, count() AS events,
    countIf(action = 'PressButton') AS presses,
    if(presses = 0, NULL, dateDiff('microsecond', minIf(at, action = 'PressButton'), maxIf(at, action = 'PressButton')) / 1e6)
        AS pressing_seconds,
    toString(argMin(numbered.country_code, at)) AS country_code
FROM numbered
GROUP BY generated, session_id, visit;

-- One row a session, with the place it was first seen at.
CREATE OR REPLACE VIEW press_sessions AS
WITH visits AS (
    SELECT generated, session_id, count() AS visits, sum(pressing_seconds) AS pressing_seconds
    FROM press_visits
    GROUP BY generated, session_id
), sessions AS (
    SELECT (event.cohort IS NULL)::Bool AS generated, session_id, min(event.cohort) AS cohort,
        min(timestamp) AS first_at, max(timestamp) AS last_at, count() AS events,
        countIf(action = 'PressButton') AS presses,
        toString(argMin(event.country_code, timestamp)) AS country_code,
        toString(argMin(event.country_name, timestamp)) AS country_name,
        toString(argMin(event.subdivision_name, timestamp)) AS subdivision_name,
        toString(argMin(event.city_name, timestamp)) AS city_name
    FROM button_presses AS event
    GROUP BY generated, session_id
)
SELECT generated, cohort, session_id, first_at, last_at, visits, events, presses, pressing_seconds,
    country_code, country_name, subdivision_name, city_name
FROM sessions JOIN visits USING (generated, session_id);

-- The answer in one row: presses of a session, and seconds of pressing in a visit that has a press.
CREATE OR REPLACE VIEW presses_per_session AS
WITH of_sessions AS (
    SELECT generated, count() AS sessions, countIf(session.presses > 0) AS sessions_with_a_press,
        sum(session.presses) AS presses, avg(session.presses) AS presses_mean,
        quantileExactInclusive(0.5)(session.presses) AS presses_median,
        quantileExactInclusive(0.9)(session.presses) AS presses_p90,
        max(session.presses) AS presses_most
    FROM press_sessions AS session
    GROUP BY generated
), of_visits AS (
    SELECT generated, count() AS visits, avg(pressing_seconds) AS seconds_mean,
        quantileExactInclusiveOrNull(0.5)(pressing_seconds) AS seconds_median,
        quantileExactInclusiveOrNull(0.9)(pressing_seconds) AS seconds_p90
    FROM press_visits
    GROUP BY generated
)
SELECT generated, sessions, visits, sessions_with_a_press, sessions_with_a_press / sessions AS share_with_a_press,
    presses, presses_mean, presses_median, presses_p90, presses_most, seconds_mean, seconds_median, seconds_p90
FROM of_sessions JOIN of_visits USING (generated);

-- How many sessions have so many presses.
CREATE OR REPLACE VIEW sessions_by_presses AS
SELECT generated, presses, count() AS sessions
FROM press_sessions
GROUP BY generated, presses;
