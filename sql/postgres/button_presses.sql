-- The recommended table for button_presses: one partition a month, each column in the type that fits its field.
-- PostgreSQL 13 or newer. Change names and months as you like; `pressline check --online` shows what fits where.

CREATE TYPE button_action AS ENUM ('EnterPage', 'PressButton', 'ExitPage');

CREATE TABLE button_presses (
    session_id       uuid         NOT NULL,
    "timestamp"      timestamptz  NOT NULL,
    cohort           integer,
    action           button_action NOT NULL,
    country_name     text         NOT NULL,
    country_code     char(2)      NOT NULL,
    subdivision_name text         NOT NULL,
    subdivision_code varchar(8)   NOT NULL,
    city_name        text         NOT NULL,
    latitude         double precision,
    longitude        double precision,
    accuracy_km      integer,
    time_zone        text
) PARTITION BY RANGE ("timestamp");

-- Takes what no month was made for, so that nothing is ever refused for its date. Keep it empty: see new_month below.
CREATE TABLE button_presses_other PARTITION OF button_presses DEFAULT;

-- A month's partition is made ahead of time, from cron or pg_cron:
--     SELECT button_presses_new_month(now() + interval '1 month');
CREATE FUNCTION button_presses_new_month(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := date_trunc('month', moment, 'UTC');
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF button_presses FOR VALUES FROM (%L) TO (%L)',
        'button_presses_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM'), first, first + interval '1 month');
END $$;

SELECT button_presses_new_month(now()), button_presses_new_month(now() + interval '1 month');

-- Rows arrive nearly in the order of their time, so a block range index answers "the last hour" at a thousandth of a
-- B-tree's size; the other one finds a session.
CREATE INDEX ON button_presses USING brin ("timestamp");
CREATE INDEX ON button_presses (session_id);

-- Retention is the dropping of a partition, which costs nothing:
--     DROP TABLE button_presses_2025_01;
