-- Which of the data is generated?
--
-- Generated events have no cohort; `pressline generate --cohorts` gives them one, and then nobody can tell them from real ones.
-- The other views filter nothing: each has the column `generated`. ClickHouse 23.8 or newer, on the table of
-- sql/clickhouse/button_presses.sql.

CREATE OR REPLACE VIEW generated_and_real AS
SELECT (cohort IS NULL)::Bool AS generated, if(generated, 'generated', 'real') AS kind, count() AS events,
    countIf(action = 'PressButton') AS presses, uniqExact(session_id) AS sessions, uniqExact(cohort) AS cohorts,
    uniqExactIf(country_code, country_code <> '--') AS countries, min(timestamp) AS first_at, max(timestamp) AS last_at
FROM button_presses
GROUP BY generated;
