WITH
-- the events that are used at all
used_events AS (
  SELECT *
  FROM (
    SELECT
      CAST("domain_userid" AS VARCHAR) AS visitor,
      CASE TYPEOF("derived_tstamp") WHEN 'TIMESTAMP' THEN CAST("derived_tstamp" AS TIMESTAMP) WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST("derived_tstamp" AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CASE WHEN REGEXP_MATCHES(CAST("derived_tstamp" AS VARCHAR), '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CAST(CAST("derived_tstamp" AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CAST(CAST("derived_tstamp" AS VARCHAR) AS TIMESTAMP) END END AS ts,
      CASE TYPEOF("collector_tstamp") WHEN 'TIMESTAMP' THEN CAST("collector_tstamp" AS TIMESTAMP) WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST("collector_tstamp" AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CASE WHEN REGEXP_MATCHES(CAST("collector_tstamp" AS VARCHAR), '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CAST(CAST("collector_tstamp" AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CAST(CAST("collector_tstamp" AS VARCHAR) AS TIMESTAMP) END END AS collected,
      "domain_sessionid" AS session,
      NULL AS app,
      CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN 1 ELSE 0 END AS is_anchor,
      CASE WHEN "event_name" = 'submit_form' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN 1 ELSE 0 END AS is_goal
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
    SELECT visitor, session_start + to_microseconds(elapsed + MOD(10000000 - MOD(elapsed, 10000000), 10000000)) AS ts, session
    FROM (
      SELECT
        visitor,
        session,
        MIN(ts) OVER (PARTITION BY visitor, session) AS session_start,
        (epoch_us(ts) - epoch_us(MIN(ts) OVER (PARTITION BY visitor, session))) AS elapsed
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
    MD5(CONCAT(c.visitor, ' ', CAST((epoch_us(c.ts) - epoch_us(CAST('1970-01-01' AS TIMESTAMP))) AS VARCHAR), ' 0')) AS sample_hash,
    ROW_NUMBER() OVER (PARTITION BY c.visitor, c.session ORDER BY MD5(CONCAT(c.visitor, ' ', CAST((epoch_us(c.ts) - epoch_us(CAST('1970-01-01' AS TIMESTAMP))) AS VARCHAR), ' 0')), c.ts) AS place_in_session
  FROM candidates AS c
  ASOF LEFT JOIN goals AS next_goal ON next_goal.visitor = c.visitor AND c.ts < next_goal.ts
  ASOF LEFT JOIN event_counts AS earlier ON earlier.visitor = c.visitor AND c.ts > earlier.ts
  CROSS JOIN data_end
  WHERE c.ts <= data_end.ts - INTERVAL '3600 seconds' AND earlier.events >= 2
)
SELECT
  visitor AS "domain_userid",
  ts AS "anchor_ts",
  goal_follows AS "label",
  CASE WHEN goal_follows THEN 1.0 ELSE 10.0 END AS "weight"
FROM labelled
WHERE place_in_session <= 3
AND (goal_follows OR SUBSTR(sample_hash, 17, 8) < '1999999a')
ORDER BY 1, 2
