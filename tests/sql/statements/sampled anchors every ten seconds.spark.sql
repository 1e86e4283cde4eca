WITH
-- the events that are used at all
used_events AS (
  SELECT *
  FROM (
    SELECT
      CAST(`domain_userid` AS STRING) AS visitor,
      CASE TYPEOF(`derived_tstamp`) WHEN 'timestamp_ntz' THEN CAST(`derived_tstamp` AS TIMESTAMP_NTZ) WHEN 'timestamp' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(`derived_tstamp` AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CASE WHEN CAST(`derived_tstamp` AS STRING) RLIKE '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(CAST(`derived_tstamp` AS STRING) AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CAST(CAST(`derived_tstamp` AS STRING) AS TIMESTAMP_NTZ) END END AS ts,
      CASE TYPEOF(`collector_tstamp`) WHEN 'timestamp_ntz' THEN CAST(`collector_tstamp` AS TIMESTAMP_NTZ) WHEN 'timestamp' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(`collector_tstamp` AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CASE WHEN CAST(`collector_tstamp` AS STRING) RLIKE '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(CAST(`collector_tstamp` AS STRING) AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CAST(CAST(`collector_tstamp` AS STRING) AS TIMESTAMP_NTZ) END END AS collected,
      `domain_sessionid` AS session,
      NULL AS app,
      CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN 1 ELSE 0 END AS is_anchor,
      CASE WHEN `event_name` = 'submit_form' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN 1 ELSE 0 END AS is_goal
    FROM events
  ) AS read_events
  WHERE visitor NOT IN ('', '00000000-0000-0000-0000-000000000000')
  AND NOT COALESCE((ts > collected + INTERVAL '3600' SECOND OR ts < collected - INTERVAL '2592000' SECOND), FALSE)
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
    SELECT visitor, session_start + (elapsed + MOD(10000000 - MOD(elapsed, 10000000), 10000000)) * INTERVAL '0.000001' SECOND AS ts, session
    FROM (
      SELECT
        visitor,
        session,
        MIN(ts) OVER (PARTITION BY visitor, session) AS session_start,
        CAST(CAST(CAST(ts - MIN(ts) OVER (PARTITION BY visitor, session) AS INTERVAL SECOND) AS DECIMAL(20, 6)) * 1000000 AS BIGINT) AS elapsed
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
    COALESCE(next_goal.ts <= c.ts + INTERVAL '3600' SECOND, FALSE) AS goal_follows,
    MD5(CONCAT(c.visitor, ' ', CAST(CAST(CAST(CAST(c.ts - CAST('1970-01-01' AS TIMESTAMP_NTZ) AS INTERVAL SECOND) AS DECIMAL(20, 6)) * 1000000 AS BIGINT) AS STRING), ' 0')) AS sample_hash,
    ROW_NUMBER() OVER (PARTITION BY c.visitor, c.session ORDER BY MD5(CONCAT(c.visitor, ' ', CAST(CAST(CAST(CAST(c.ts - CAST('1970-01-01' AS TIMESTAMP_NTZ) AS INTERVAL SECOND) AS DECIMAL(20, 6)) * 1000000 AS BIGINT) AS STRING), ' 0')), c.ts) AS place_in_session
  FROM candidates AS c
  LEFT JOIN (
    SELECT *
    FROM (
      SELECT visitor, at, is_row,
      LAST_VALUE(ts, TRUE) OVER (PARTITION BY visitor ORDER BY at DESC, is_row DESC ROWS UNBOUNDED PRECEDING) AS ts
      FROM (
        SELECT visitor, ts AS at, ts, 0 AS is_row FROM goals
        UNION ALL
        SELECT visitor, ts, NULL, 1 FROM candidates
      ) AS stream
    ) AS every_row
    WHERE is_row = 1
  ) AS next_goal ON next_goal.visitor = c.visitor AND next_goal.at = c.ts
  LEFT JOIN (
    SELECT *
    FROM (
      SELECT visitor, at, is_row,
      LAST_VALUE(ts, TRUE) OVER (PARTITION BY visitor ORDER BY at ASC, is_row DESC ROWS UNBOUNDED PRECEDING) AS ts,
      LAST_VALUE(events, TRUE) OVER (PARTITION BY visitor ORDER BY at ASC, is_row DESC ROWS UNBOUNDED PRECEDING) AS events
      FROM (
        SELECT visitor, ts AS at, ts, events, 0 AS is_row FROM event_counts
        UNION ALL
        SELECT visitor, ts, NULL, NULL, 1 FROM candidates
      ) AS stream
    ) AS every_row
    WHERE is_row = 1
  ) AS earlier ON earlier.visitor = c.visitor AND earlier.at = c.ts
  CROSS JOIN data_end
  WHERE c.ts <= data_end.ts - INTERVAL '3600' SECOND AND earlier.events >= 2
)
SELECT
  visitor AS `domain_userid`,
  ts AS `anchor_ts`,
  goal_follows AS `label`,
  CASE WHEN goal_follows THEN 1.0 ELSE 10.0 END AS `weight`
FROM labelled
WHERE place_in_session <= 3
AND (goal_follows OR SUBSTR(sample_hash, 17, 8) < '1999999a')
ORDER BY 1, 2
