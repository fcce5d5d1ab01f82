-- Does a change of the page make people press more?
--
-- Sessions are drawn into cohorts, so a session is what counts, not a press. Intervals are those of 95 %: the normal one of a
-- mean, Wilson's of a share, the normal one of the logarithm of a ratio. They want some hundred sessions a cohort.
-- `generated` is true for events without a cohort. ClickHouse 23.8 or newer, on the table of sql/clickhouse/button_presses.sql and
-- the views of 1_sessions.sql.

CREATE OR REPLACE VIEW cohorts AS
WITH numbers AS (
    SELECT generated, cohort, count() AS sessions, countIf(session.presses > 0) AS sessions_with_a_press,
        sum(session.presses) AS presses, avg(session.presses) AS presses_mean,
        if(sessions < 2, NULL, stddevSamp(session.presses)) AS presses_sd
    FROM press_sessions AS session
    GROUP BY generated, cohort
), shares AS (
    SELECT *, sessions_with_a_press / sessions AS share_with_a_press, 1 + pow(1.96, 2) / sessions AS wilson,
        1.96 * sqrt(share_with_a_press * (1 - share_with_a_press) / sessions + pow(1.96, 2) / (4 * pow(sessions, 2))) AS spread
    FROM numbers
)
SELECT generated, cohort, sessions, presses, presses_mean, presses_sd,
    presses_mean - 1.96 * presses_sd / sqrt(sessions) AS presses_low,
    presses_mean + 1.96 * presses_sd / sqrt(sessions) AS presses_high,
    sessions_with_a_press, share_with_a_press,
    (share_with_a_press + pow(1.96, 2) / (2 * sessions) - spread) / wilson AS share_low,
    (share_with_a_press + pow(1.96, 2) / (2 * sessions) + spread) / wilson AS share_high
FROM shares;

-- Each cohort beside each one before it: how many presses a session more, and how many times as many. `differs`: the interval of
-- the difference does not hold 0.
CREATE OR REPLACE VIEW cohort_comparisons AS
WITH pairs AS (
    SELECT a.generated AS generated, a.cohort AS cohort, b.cohort AS other_cohort, a.sessions AS sessions,
        b.sessions AS other_sessions, b.presses_mean - a.presses_mean AS difference,
        sqrt(pow(a.presses_sd, 2) / a.sessions + pow(b.presses_sd, 2) / b.sessions) AS error,
        b.presses_mean / nullIf(a.presses_mean, 0) AS ratio,
        sqrt(pow(a.presses_sd / nullIf(a.presses_mean, 0), 2) / a.sessions
            + pow(b.presses_sd / nullIf(b.presses_mean, 0), 2) / b.sessions) AS ratio_error
    FROM cohorts AS a JOIN cohorts AS b ON a.generated = b.generated
    WHERE a.cohort < b.cohort
)
SELECT generated, assumeNotNull(cohort) AS cohort, assumeNotNull(other_cohort) AS other_cohort, sessions, other_sessions, difference,
    difference - 1.96 * error AS difference_low, difference + 1.96 * error AS difference_high,
    ratio, ratio * exp(-1.96 * ratio_error) AS ratio_low, ratio * exp(1.96 * ratio_error) AS ratio_high,
    (abs(difference) > 1.96 * error)::Nullable(Bool) AS differs
FROM pairs;
