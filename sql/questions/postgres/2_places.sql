-- From which countries and regions do people press, and where do they press most?
--
-- A session counts in each place that it was seen at. -- and empty names are places that no database knows.
-- `generated` is true for events without a cohort. PostgreSQL 13 or newer, on the table of sql/postgres/button_presses.sql.

CREATE OR REPLACE VIEW presses_by_country AS
SELECT cohort IS NULL AS generated, country_code::text AS country_code, min(country_name) AS country_name,
    count(DISTINCT session_id) AS sessions,
    count(DISTINCT session_id) FILTER (WHERE action = 'PressButton') AS sessions_with_a_press,
    count(*) FILTER (WHERE action = 'PressButton') AS presses,
    count(*) FILTER (WHERE action = 'PressButton')::float8 / count(DISTINCT session_id) AS presses_per_session,
    coalesce(count(*) FILTER (WHERE action = 'PressButton')::float8
        / nullif(sum(count(*) FILTER (WHERE action = 'PressButton')) OVER (PARTITION BY cohort IS NULL), 0), 0)::float8
        AS share_of_presses
FROM button_presses
GROUP BY cohort IS NULL, country_code;

CREATE OR REPLACE VIEW presses_by_region AS
SELECT cohort IS NULL AS generated, country_code::text AS country_code, min(country_name) AS country_name,
    subdivision_name, min(subdivision_code) AS subdivision_code,
    count(DISTINCT session_id) AS sessions,
    count(DISTINCT session_id) FILTER (WHERE action = 'PressButton') AS sessions_with_a_press,
    count(*) FILTER (WHERE action = 'PressButton') AS presses,
    count(*) FILTER (WHERE action = 'PressButton')::float8 / count(DISTINCT session_id) AS presses_per_session
FROM button_presses
GROUP BY cohort IS NULL, country_code, subdivision_name;
