-- When does it become boring?
--
-- Week 0 of a session is its first seven days. A session is active in a week in which it has any event. A session's week counts
-- only when all of it lies before the last event of the data, so that the young sessions do not look bored.
-- `generated` is true for events without a cohort. ClickHouse 23.8 or newer, on the table of sql/clickhouse/button_presses.sql and
-- the views of 1_sessions.sql.

-- One row for each session and each week in which it was active. `complete`: the week lies before the end of the data.
CREATE OR REPLACE VIEW active_weeks AS
WITH events AS (
    SELECT (cohort IS NULL)::Bool AS generated, session_id, timestamp, action FROM button_presses
), ends AS (
    SELECT generated, max(timestamp) AS end_at FROM events GROUP BY generated
)
SELECT generated, session_id, first_at, toInt32(intDiv(dateDiff('microsecond', first_at, timestamp), 604800000000)) AS week,
    countIf(action = 'PressButton') AS presses,
    (intDiv(dateDiff('microsecond', first_at, end_at), 604800000000) > week)::Bool AS complete
FROM events
    JOIN (SELECT generated, session_id, first_at FROM press_sessions) AS session USING (generated, session_id)
    JOIN ends USING (generated)
GROUP BY generated, session_id, first_at, week, complete;

-- Of all sessions that are old enough: how many are active in their week 0, 1, 2, ... and how much they press then.
CREATE OR REPLACE VIEW boredom_by_week AS
WITH ends AS (
    SELECT generated, max(last_at) AS end_at FROM press_sessions GROUP BY generated
), ages AS (
    SELECT generated, toInt32(intDiv(dateDiff('microsecond', first_at, end_at), 604800000000)) AS weeks, count() AS sessions
    FROM press_sessions JOIN ends USING (generated)
    GROUP BY generated, weeks
), old_enough AS (
    SELECT generated, week, sum(sessions) AS sessions
    FROM ages ARRAY JOIN arrayMap(n -> toInt32(n), range(toUInt32(weeks))) AS week
    GROUP BY generated, week
), active AS (
    SELECT generated, week, toNullable(count()) AS active, sum(active_weeks.presses) AS presses
    FROM active_weeks
    WHERE complete
    GROUP BY generated, week
)
SELECT generated, week, sessions, ifNull(active.active, 0) AS active, ifNull(active.active, 0) / sessions AS retention,
    ifNull(active.presses, 0) AS presses, active.presses / active.active AS presses_per_active_session,
    ifNull(active.presses, 0) / sessions AS presses_per_session
FROM old_enough LEFT JOIN active USING (generated, week);

-- The same by the week (its Monday) in which sessions began: do later visitors become bored sooner? Weeks that are not complete for
-- every session of the group are marked.
CREATE OR REPLACE VIEW retention_by_week AS
WITH groups AS (
    SELECT generated, toMonday(first_at, 'UTC') AS first_week, count() AS sessions
    FROM press_sessions
    GROUP BY generated, first_week
), ends AS (
    SELECT generated, max(last_at) AS end_at FROM press_sessions GROUP BY generated
), weeks AS (
    SELECT generated, first_week, sessions, week,
        (toDateTime64(first_week, 6, 'UTC') + toIntervalDay((week + 2) * 7) <= end_at)::Bool AS complete
    FROM groups JOIN ends USING (generated)
    ARRAY JOIN arrayMap(n -> toInt32(n),
        range(toUInt32(1 + intDiv(dateDiff('microsecond', toDateTime64(first_week, 6, 'UTC'), end_at), 604800000000)))) AS week
), active AS (
    SELECT generated, toMonday(first_at, 'UTC') AS first_week, week, toNullable(count()) AS active,
        sum(active_weeks.presses) AS presses
    FROM active_weeks
    GROUP BY generated, first_week, week
)
SELECT generated, first_week, week, sessions, ifNull(active.active, 0) AS active, ifNull(active.active, 0) / sessions AS retention,
    ifNull(active.presses, 0) AS presses, active.presses / active.active AS presses_per_active_session, complete
FROM weeks LEFT JOIN active USING (generated, first_week, week);

-- In how many days does pressing become half as much? A line through the logarithm of presses a session, from week 1 on (week 0
-- has the first visit, which is no return); each week weighs as many presses as it has. Null where nothing wanes.
CREATE OR REPLACE VIEW boredom_half_life AS
WITH points AS (
    SELECT generated, toFloat64(week) AS x, log2(presses_per_session) AS y, toFloat64(presses) AS w
    FROM boredom_by_week
    WHERE week >= 1 AND presses > 0
), sums AS (
    SELECT generated, count() AS weeks, sum(w) * sum(w * x * y) - sum(w * x) * sum(w * y) AS xy,
        sum(w) * sum(w * x * x) - pow(sum(w * x), 2) AS xx, sum(w) * sum(w * y * y) - pow(sum(w * y), 2) AS yy
    FROM points
    GROUP BY generated
)
SELECT generated, weeks, if(xy < 0 AND xx > 0, -7 * xx / xy, NULL) AS half_life_days,
    if(xx > 0 AND yy > 0, xy * xy / xx / yy, NULL) AS r_squared
FROM sums;
