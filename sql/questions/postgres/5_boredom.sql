-- When does it become boring?
--
-- Week 0 of a session is its first seven days. A session is active in a week in which it has any event. A session's week counts
-- only when all of it lies before the last event of the data, so that the young sessions do not look bored.
-- `generated` is true for events without a cohort. PostgreSQL 13 or newer, on the table of sql/postgres/button_presses.sql and
-- the views of 1_sessions.sql.

-- One row for each session and each week in which it was active. `complete`: the week lies before the end of the data.
CREATE OR REPLACE VIEW active_weeks AS
WITH ends AS (
    SELECT generated, max(last_at) AS end_at FROM press_sessions GROUP BY generated
), ages AS (
    SELECT session.generated, session.session_id, first_at, action,
        floor(extract(epoch FROM "timestamp" - first_at) / 604800)::int AS week,
        floor(extract(epoch FROM end_at - first_at) / 604800)::int AS weeks
    FROM button_presses AS event
        JOIN press_sessions AS session ON session.session_id = event.session_id AND session.generated = (event.cohort IS NULL)
        JOIN ends ON ends.generated = session.generated
)
SELECT generated, session_id, first_at, week, count(*) FILTER (WHERE action = 'PressButton') AS presses, weeks > week AS complete
FROM ages
GROUP BY generated, session_id, first_at, week, weeks;

-- Of all sessions that are old enough: how many are active in their week 0, 1, 2, ... and how much they press then.
CREATE OR REPLACE VIEW boredom_by_week AS
WITH ends AS (
    SELECT generated, max(last_at) AS end_at FROM press_sessions GROUP BY generated
), ages AS (
    SELECT generated, floor(extract(epoch FROM end_at - first_at) / 604800)::int AS weeks, count(*) AS sessions
    FROM press_sessions JOIN ends USING (generated)
    GROUP BY 1, 2
), old_enough AS (
    SELECT generated, week, sum(sessions)::bigint AS sessions
    FROM ages CROSS JOIN LATERAL generate_series(0, weeks - 1) AS week
    GROUP BY generated, week
), active AS (
    SELECT generated, week, count(*) AS active, sum(presses)::bigint AS presses
    FROM active_weeks
    WHERE complete
    GROUP BY generated, week
)
SELECT generated, week, sessions, coalesce(active, 0) AS active, coalesce(active, 0)::float8 / sessions AS retention,
    coalesce(presses, 0) AS presses, presses::float8 / active AS presses_per_active_session,
    coalesce(presses, 0)::float8 / sessions AS presses_per_session
FROM old_enough LEFT JOIN active USING (generated, week);

-- The same by the week (its Monday) in which sessions began: do later visitors become bored sooner? Weeks that are not complete for
-- every session of the group are marked.
CREATE OR REPLACE VIEW retention_by_week AS
WITH groups AS (
    SELECT generated, date_trunc('week', first_at AT TIME ZONE 'UTC')::date AS first_week, count(*) AS sessions
    FROM press_sessions
    GROUP BY 1, 2
), ends AS (
    SELECT generated, max(last_at) AT TIME ZONE 'UTC' AS end_at FROM press_sessions GROUP BY generated
), weeks AS (
    SELECT generated, first_week, sessions, week, first_week + (week + 2) * 7 <= end_at AS complete
    FROM groups JOIN ends USING (generated)
        CROSS JOIN LATERAL generate_series(0, floor(extract(epoch FROM end_at - first_week) / 604800)::int) AS week
), active AS (
    SELECT generated, date_trunc('week', first_at AT TIME ZONE 'UTC')::date AS first_week, week, count(*) AS active,
        sum(presses)::bigint AS presses
    FROM active_weeks
    GROUP BY 1, 2, 3
)
SELECT generated, first_week, week, sessions, coalesce(active, 0) AS active,
    coalesce(active, 0)::float8 / sessions AS retention, coalesce(presses, 0) AS presses,
    presses::float8 / active AS presses_per_active_session, complete
FROM weeks LEFT JOIN active USING (generated, first_week, week);

-- In how many days does pressing become half as much? A line through the logarithm of presses a session, from week 1 on (week 0
-- has the first visit, which is no return); each week weighs as many presses as it has. Null where nothing wanes.
CREATE OR REPLACE VIEW boredom_half_life AS
WITH points AS (
    SELECT generated, week::float8 AS x, ln(presses_per_session) / ln(2::float8) AS y, presses::float8 AS w
    FROM boredom_by_week
    WHERE week >= 1 AND presses > 0
), sums AS (
    SELECT generated, count(*) AS weeks, sum(w) * sum(w * x * y) - sum(w * x) * sum(w * y) AS xy,
        sum(w) * sum(w * x * x) - sum(w * x) ^ 2 AS xx, sum(w) * sum(w * y * y) - sum(w * y) ^ 2 AS yy
    FROM points
    GROUP BY generated
)
SELECT generated, weeks, CASE WHEN xy < 0 AND xx > 0 THEN -7 * xx / xy END AS half_life_days,
    CASE WHEN xx > 0 AND yy > 0 THEN xy ^ 2 / xx / yy END AS r_squared
FROM sums;
