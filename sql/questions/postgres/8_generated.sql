-- Which of the data is generated?
--
-- Generated events have no cohort; `pressline generate --cohorts` gives them one, and then nobody can tell them from real ones.
-- The other views filter nothing: each has the column `generated`. PostgreSQL 13 or newer, on the table of
-- sql/postgres/button_presses.sql.

CREATE OR REPLACE VIEW generated_and_real AS
SELECT cohort IS NULL AS generated, CASE WHEN cohort IS NULL THEN 'generated' ELSE 'real' END AS kind, count(*) AS events,
    count(*) FILTER (WHERE action = 'PressButton') AS presses, count(DISTINCT session_id) AS sessions,
    count(DISTINCT cohort) AS cohorts, count(DISTINCT country_code) FILTER (WHERE country_code <> '--') AS countries,
    min("timestamp") AS first_at, max("timestamp") AS last_at
FROM button_presses
GROUP BY cohort IS NULL;
