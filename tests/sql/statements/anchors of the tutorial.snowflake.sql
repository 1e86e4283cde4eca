WITH
-- the events that are used at all
used_events AS (
  SELECT *
  FROM (
    SELECT
      CAST("DOMAIN_USERID" AS VARCHAR) AS visitor,
      CASE WHEN STARTSWITH(SYSTEM$TYPEOF("DERIVED_TSTAMP"), 'TIMESTAMP_NTZ') THEN "DERIVED_TSTAMP"::TIMESTAMP_NTZ WHEN STARTSWITH(SYSTEM$TYPEOF("DERIVED_TSTAMP"), 'TIMESTAMP') THEN CONVERT_TIMEZONE('UTC', "DERIVED_TSTAMP"::TIMESTAMP_TZ)::TIMESTAMP_NTZ ELSE CASE WHEN REGEXP_LIKE("DERIVED_TSTAMP"::VARCHAR, '.*[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CONVERT_TIMEZONE('UTC', TO_TIMESTAMP_TZ(REPLACE("DERIVED_TSTAMP"::VARCHAR, ' UTC', 'Z')))::TIMESTAMP_NTZ ELSE TO_TIMESTAMP_NTZ("DERIVED_TSTAMP"::VARCHAR) END END AS ts,
      CASE WHEN STARTSWITH(SYSTEM$TYPEOF("COLLECTOR_TSTAMP"), 'TIMESTAMP_NTZ') THEN "COLLECTOR_TSTAMP"::TIMESTAMP_NTZ WHEN STARTSWITH(SYSTEM$TYPEOF("COLLECTOR_TSTAMP"), 'TIMESTAMP') THEN CONVERT_TIMEZONE('UTC', "COLLECTOR_TSTAMP"::TIMESTAMP_TZ)::TIMESTAMP_NTZ ELSE CASE WHEN REGEXP_LIKE("COLLECTOR_TSTAMP"::VARCHAR, '.*[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CONVERT_TIMEZONE('UTC', TO_TIMESTAMP_TZ(REPLACE("COLLECTOR_TSTAMP"::VARCHAR, ' UTC', 'Z')))::TIMESTAMP_NTZ ELSE TO_TIMESTAMP_NTZ("COLLECTOR_TSTAMP"::VARCHAR) END END AS collected,
      NULL AS session,
      "APP_ID" AS app,
      CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN 1 ELSE 0 END AS is_anchor,
      CASE WHEN "EVENT_NAME" = 'submit_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN 1 ELSE 0 END AS is_goal
    FROM events
    WHERE "EVENT_NAME" NOT IN ('application_error', 'web_vitals', 'link_click')
  ) AS read_events
  WHERE visitor NOT IN ('', '00000000-0000-0000-0000-000000000000')
  AND NOT COALESCE((ts > collected + INTERVAL '3600 seconds' OR ts < collected - INTERVAL '2592000 seconds'), FALSE)
),
data_end AS (
  SELECT MAX(collected) AS ts FROM used_events
),
goals AS (
  SELECT visitor, ts FROM used_events WHERE is_goal = 1 GROUP BY visitor, ts
),
-- each visitor's first and last event, and first goal
visitor_starts AS (
  SELECT
    visitor,
    MIN(ts) AS first_ts,
    MAX(ts) AS last_ts,
    MIN(CASE WHEN is_goal = 1 THEN ts END) AS goal_ts
  FROM used_events
  GROUP BY visitor
),
first_apps AS (
  SELECT e.visitor, MIN(e.app) AS first_app
  FROM used_events AS e
  JOIN visitor_starts AS s ON s.visitor = e.visitor AND s.first_ts = e.ts
  GROUP BY e.visitor
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
  ASOF JOIN goals AS next_goal MATCH_CONDITION (c.ts < next_goal.ts) ON next_goal.visitor = c.visitor
  JOIN visitor_starts ON visitor_starts.visitor = c.visitor
  JOIN first_apps ON first_apps.visitor = c.visitor
  CROSS JOIN data_end
  WHERE c.ts <= data_end.ts - INTERVAL '3600 seconds' AND first_app IN ('website', 'hs-landing') AND first_ts BETWEEN data_end.ts - INTERVAL '5184000 seconds' AND data_end.ts - INTERVAL '2592000 seconds'
)
SELECT
  visitor AS "DOMAIN_USERID",
  ts AS "ANCHOR_TS",
  goal_follows AS "LABEL"
FROM labelled
ORDER BY 1, 2
