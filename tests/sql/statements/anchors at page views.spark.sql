WITH
-- the events that are used at all
used_events AS (
  SELECT *
  FROM (
    SELECT
      CAST(`domain_userid` AS STRING) AS visitor,
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
    COALESCE(next_goal.ts <= c.ts + INTERVAL '3600' SECOND, FALSE) AS goal_follows
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
  CROSS JOIN data_end
  WHERE c.ts <= data_end.ts - INTERVAL '3600' SECOND
)
SELECT
  visitor AS `domain_userid`,
  ts AS `anchor_ts`,
  goal_follows AS `label`
FROM labelled
ORDER BY 1, 2
