WITH
-- the events that are used at all
used_events AS (
  SELECT *
  FROM (
    SELECT
      CAST("DOMAIN_USERID" AS VARCHAR) AS visitor,
      CASE WHEN STARTSWITH(SYSTEM$TYPEOF("DERIVED_TSTAMP"), 'TIMESTAMP_NTZ') THEN "DERIVED_TSTAMP"::TIMESTAMP_NTZ WHEN STARTSWITH(SYSTEM$TYPEOF("DERIVED_TSTAMP"), 'TIMESTAMP') THEN CONVERT_TIMEZONE('UTC', "DERIVED_TSTAMP"::TIMESTAMP_TZ)::TIMESTAMP_NTZ ELSE CASE WHEN REGEXP_LIKE("DERIVED_TSTAMP"::VARCHAR, '.*[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CONVERT_TIMEZONE('UTC', TO_TIMESTAMP_TZ(REPLACE("DERIVED_TSTAMP"::VARCHAR, ' UTC', 'Z')))::TIMESTAMP_NTZ ELSE TO_TIMESTAMP_NTZ("DERIVED_TSTAMP"::VARCHAR) END END AS ts,
      CASE WHEN STARTSWITH(SYSTEM$TYPEOF("COLLECTOR_TSTAMP"), 'TIMESTAMP_NTZ') THEN "COLLECTOR_TSTAMP"::TIMESTAMP_NTZ WHEN STARTSWITH(SYSTEM$TYPEOF("COLLECTOR_TSTAMP"), 'TIMESTAMP') THEN CONVERT_TIMEZONE('UTC', "COLLECTOR_TSTAMP"::TIMESTAMP_TZ)::TIMESTAMP_NTZ ELSE CASE WHEN REGEXP_LIKE("COLLECTOR_TSTAMP"::VARCHAR, '.*[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CONVERT_TIMEZONE('UTC', TO_TIMESTAMP_TZ(REPLACE("COLLECTOR_TSTAMP"::VARCHAR, ' UTC', 'Z')))::TIMESTAMP_NTZ ELSE TO_TIMESTAMP_NTZ("COLLECTOR_TSTAMP"::VARCHAR) END END AS collected,
      "DOMAIN_SESSIONID" AS session,
      NULL AS app,
      CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN 1 ELSE 0 END AS is_anchor,
      CASE WHEN "EVENT_NAME" = 'submit_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN 1 ELSE 0 END AS is_goal
    FROM events
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
-- how many events each visitor has had, after each instant
event_counts AS (
  SELECT
    visitor,
    ts,
    SUM(COUNT(*)) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS events
  FROM used_events
  GROUP BY visitor, ts
),
-- the instants at which a visitor may become a row
candidates AS (
  SELECT visitor, ts, MIN(session) AS session
  FROM (
    SELECT visitor, ts, session FROM used_events WHERE is_anchor = 1
    UNION ALL
    SELECT visitor, DATEADD('microsecond', elapsed + MOD(10000000 - MOD(elapsed, 10000000), 10000000), session_start) AS ts, session
    FROM (
      SELECT
        visitor,
        session,
        MIN(ts) OVER (PARTITION BY visitor, session) AS session_start,
        DATEDIFF('microsecond', MIN(ts) OVER (PARTITION BY visitor, session), ts) AS elapsed
      FROM used_events
    ) AS ticks
  ) AS places
  GROUP BY visitor, ts
),
-- those of chosen visitors whose horizon the data covers; the label of the others is unknown
labelled AS (
  SELECT
    c.visitor,
    c.ts,
    COALESCE(next_goal.ts <= c.ts + INTERVAL '3600 seconds', FALSE) AS goal_follows,
    MD5(CONCAT(c.visitor, ' ', CAST(DATEDIFF('microsecond', CAST('1970-01-01' AS TIMESTAMP_NTZ), c.ts) AS VARCHAR), ' 0')) AS sample_hash,
    ROW_NUMBER() OVER (PARTITION BY c.visitor, c.session ORDER BY MD5(CONCAT(c.visitor, ' ', CAST(DATEDIFF('microsecond', CAST('1970-01-01' AS TIMESTAMP_NTZ), c.ts) AS VARCHAR), ' 0')), c.ts) AS place_in_session
  FROM candidates AS c
  ASOF JOIN goals AS next_goal MATCH_CONDITION (c.ts < next_goal.ts) ON next_goal.visitor = c.visitor
  ASOF JOIN event_counts AS earlier MATCH_CONDITION (c.ts > earlier.ts) ON earlier.visitor = c.visitor
  CROSS JOIN data_end
  WHERE c.ts <= data_end.ts - INTERVAL '3600 seconds' AND earlier.events >= 2
)
SELECT
  visitor AS "DOMAIN_USERID",
  ts AS "ANCHOR_TS",
  goal_follows AS "LABEL",
  CASE WHEN goal_follows THEN 1.0 ELSE 10.0 END AS "WEIGHT"
FROM labelled
WHERE place_in_session <= 3
AND (goal_follows OR SUBSTR(sample_hash, 17, 8) < '1999999a')
ORDER BY 1, 2
