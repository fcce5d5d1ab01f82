-- From which countries and regions do people press, and where do they press most?
--
-- A session counts in each place that it was seen at. -- and empty names are places that no database knows.
-- `generated` is true for events without a cohort. ClickHouse 23.8 or newer, on the table of sql/clickhouse/button_presses.sql.

CREATE OR REPLACE VIEW presses_by_country AS
WITH countries AS (
    SELECT (cohort IS NULL)::Bool AS generated, toString(event.country_code) AS country_code,
        toString(min(event.country_name)) AS country_name, uniqExact(session_id) AS sessions,
        uniqExactIf(session_id, action = 'PressButton') AS sessions_with_a_press, countIf(action = 'PressButton') AS presses
    FROM button_presses AS event
    GROUP BY generated, country_code
)
SELECT generated, country_code, country_name, sessions, sessions_with_a_press, presses,
    presses / sessions AS presses_per_session,
    if(presses = 0, 0, presses / sum(presses) OVER (PARTITION BY generated)) AS share_of_presses
FROM countries;

CREATE OR REPLACE VIEW presses_by_region AS
SELECT (cohort IS NULL)::Bool AS generated, toString(event.country_code) AS country_code,
    toString(min(event.country_name)) AS country_name, toString(event.subdivision_name) AS subdivision_name,
    toString(min(event.subdivision_code)) AS subdivision_code, uniqExact(session_id) AS sessions,
    uniqExactIf(session_id, action = 'PressButton') AS sessions_with_a_press, countIf(action = 'PressButton') AS presses,
    presses / sessions AS presses_per_session
FROM button_presses AS event
GROUP BY generated, country_code, subdivision_name;
