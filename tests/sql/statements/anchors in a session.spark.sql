WITH
-- the events that are used at all
used_events AS (
  SELECT *
  FROM (
    SELECT
      CAST(`domain_sessionid` AS STRING) AS visitor,
      CASE TYPEOF(`derived_tstamp`) WHEN 'timestamp_ntz' THEN CAST(`derived_tstamp` AS TIMESTAMP_NTZ) WHEN 'timestamp' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(`derived_tstamp` AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CASE WHEN CAST(`derived_tstamp` AS STRING) RLIKE '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(CAST(`derived_tstamp` AS STRING) AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CAST(CAST(`derived_tstamp` AS STRING) AS TIMESTAMP_NTZ) END END AS ts,
      CASE TYPEOF(`collector_tstamp`) WHEN 'timestamp_ntz' THEN CAST(`collector_tstamp` AS TIMESTAMP_NTZ) WHEN 'timestamp' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(`collector_tstamp` AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CASE WHEN CAST(`collector_tstamp` AS STRING) RLIKE '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(CAST(`collector_tstamp` AS STRING) AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CAST(CAST(`collector_tstamp` AS STRING) AS TIMESTAMP_NTZ) END END AS collected,
      NULL AS session,
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
    next_goal.ts IS NOT NULL AS goal_follows,
    MD5(CONCAT(c.visitor, ' ', CAST(CAST(CAST(CAST(c.ts - CAST('1970-01-01' AS TIMESTAMP_NTZ) AS INTERVAL SECOND) AS DECIMAL(20, 6)) * 1000000 AS BIGINT) AS STRING), ' 0')) AS sample_hash
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
  JOIN visitor_starts ON visitor_starts.visitor = c.visitor
  CROSS JOIN data_end
  WHERE c.ts IS NOT NULL AND visitor_starts.last_ts <= data_end.ts - INTERVAL '1800' SECOND AND (goal_ts IS NULL OR c.ts < goal_ts)
),
-- the place of each row among those with the same label, and how many there are
class_places AS (
  SELECT
    visitor,
    ts,
    goal_follows,
    ROW_NUMBER() OVER (PARTITION BY goal_follows ORDER BY sample_hash, visitor, ts) AS place,
    COUNT(*) OVER (PARTITION BY goal_follows) AS class_rows,
    COUNT(CASE WHEN goal_follows THEN 1 END) OVER () AS positives
  FROM labelled
)
SELECT
  visitor AS `domain_sessionid`,
  ts AS `anchor_ts`,
  goal_follows AS `label`,
  CASE WHEN goal_follows THEN 1.0 ELSE CAST(class_rows AS DOUBLE) / LEAST(class_rows, FLOOR(GREATEST(5.0 * positives, 1))) END AS `weight`
FROM class_places
WHERE goal_follows OR place <= FLOOR(GREATEST(5.0 * positives, 1))
ORDER BY 1, 2
