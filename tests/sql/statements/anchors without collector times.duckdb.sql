WITH
-- the events that are used at all
used_events AS (
  SELECT *
  FROM (
    SELECT
      CAST("domain_userid" AS VARCHAR) AS visitor,
      CASE TYPEOF("derived_tstamp") WHEN 'TIMESTAMP' THEN CAST("derived_tstamp" AS TIMESTAMP) WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST("derived_tstamp" AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CASE WHEN REGEXP_MATCHES(CAST("derived_tstamp" AS VARCHAR), '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CAST(CAST("derived_tstamp" AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CAST(CAST("derived_tstamp" AS VARCHAR) AS TIMESTAMP) END END AS ts,
      NULL AS collected,
      NULL AS session,
      NULL AS app,
      CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN 1 ELSE 0 END AS is_anchor,
      CASE WHEN "event_name" = 'submit_form' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN 1 ELSE 0 END AS is_goal
    FROM events
  ) AS read_events
  WHERE visitor NOT IN ('', '00000000-0000-0000-0000-000000000000')
  AND NOT COALESCE((ts > (SELECT PERCENTILE_DISC(0.95) WITHIN GROUP (ORDER BY ts) FROM (SELECT CASE TYPEOF("derived_tstamp") WHEN 'TIMESTAMP' THEN CAST("derived_tstamp" AS TIMESTAMP) WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST("derived_tstamp" AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CASE WHEN REGEXP_MATCHES(CAST("derived_tstamp" AS VARCHAR), '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CAST(CAST("derived_tstamp" AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CAST(CAST("derived_tstamp" AS VARCHAR) AS TIMESTAMP) END END AS ts FROM events) AS times) + INTERVAL '31536000 seconds' OR ts < (SELECT PERCENTILE_DISC(0.05) WITHIN GROUP (ORDER BY ts) FROM (SELECT CASE TYPEOF("derived_tstamp") WHEN 'TIMESTAMP' THEN CAST("derived_tstamp" AS TIMESTAMP) WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST("derived_tstamp" AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CASE WHEN REGEXP_MATCHES(CAST("derived_tstamp" AS VARCHAR), '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CAST(CAST("derived_tstamp" AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CAST(CAST("derived_tstamp" AS VARCHAR) AS TIMESTAMP) END END AS ts FROM events) AS times) - INTERVAL '31536000 seconds'), FALSE)
),
data_end AS (
  SELECT MAX(ts) AS ts
  FROM (SELECT ts AS ts FROM used_events) AS times
  WHERE times.ts <= (SELECT PERCENTILE_DISC(0.95) WITHIN GROUP (ORDER BY ts) FROM used_events) + INTERVAL '31536000 seconds'
),
goals AS (
  SELECT visitor, ts FROM used_events WHERE is_goal = 1 GROUP BY visitor, ts
),
-- the instants at which a visitor may become a row
candidates AS (
  SELECT visitor, ts, MIN(session) AS session
  FROM (
    SELECT visitor, ts, session FROM used_events WHERE is_anchor = 1
  ) AS places
  GROUP BY visitor, ts
),
-- those of chosen visitors whose horizon the data covers; the label of the others is unknown
labelled AS (
  SELECT
    c.visitor,
    c.ts,
    COALESCE(next_goal.ts <= c.ts + INTERVAL '3600 seconds', FALSE) AS goal_follows
  FROM candidates AS c
  ASOF LEFT JOIN goals AS next_goal ON next_goal.visitor = c.visitor AND c.ts < next_goal.ts
  CROSS JOIN data_end
  WHERE c.ts <= data_end.ts - INTERVAL '3600 seconds'
)
SELECT
  visitor AS "domain_userid",
  ts AS "anchor_ts",
  goal_follows AS "label"
FROM labelled
ORDER BY 1, 2
