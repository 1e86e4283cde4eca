WITH
-- the events that are used at all
read_events AS (
  SELECT
    CAST("DOMAIN_USERID" AS VARCHAR) AS visitor,
    CAST("DERIVED_TSTAMP" AS TIMESTAMP_NTZ) AS ts,
    CAST(NULL AS TIMESTAMP_NTZ) AS collected,
    NULL AS session,
    NULL AS app,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN 1 ELSE 0 END AS is_anchor,
    CASE WHEN "EVENT_NAME" = 'submit_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN 1 ELSE 0 END AS is_goal
  FROM events
  WHERE CAST("DOMAIN_USERID" AS VARCHAR) NOT IN ('', '00000000-0000-0000-0000-000000000000')
),
-- days with few events, far earlier or far later than all others
days AS (
  SELECT DATE_TRUNC('day', ts) AS day, COUNT(*) AS events FROM read_events GROUP BY 1
),
neighbours AS (
  SELECT
    day,
    LAG(day) OVER (ORDER BY day) AS day_before,
    LEAD(day) OVER (ORDER BY day) AS day_after,
    SUM(events) OVER (ORDER BY day ROWS UNBOUNDED PRECEDING) AS events_until,
    SUM(events) OVER (ORDER BY day DESC ROWS UNBOUNDED PRECEDING) AS events_since,
    SUM(events) OVER () AS all_events
  FROM days
),
wrong_days AS (
  SELECT
    MAX(CASE WHEN day < day_after - INTERVAL '2592000 seconds' AND events_until * 20 < all_events THEN day END)
      AS last_early,
    MIN(CASE WHEN day > day_before + INTERVAL '2592000 seconds' AND events_since * 20 < all_events THEN day END)
      AS first_late
  FROM neighbours
),
-- the events whose clock is right
used_events AS (
  SELECT e.* FROM read_events AS e CROSS JOIN wrong_days AS w
  WHERE (w.last_early IS NULL OR e.ts >= w.last_early + INTERVAL '86400 seconds') AND (w.first_late IS NULL OR e.ts < w.first_late)
),
data_end AS (
  SELECT COALESCE(MAX(collected), MAX(ts)) AS ts FROM used_events
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
  ASOF JOIN goals AS next_goal MATCH_CONDITION (c.ts < next_goal.ts) ON next_goal.visitor = c.visitor
  CROSS JOIN data_end
  WHERE c.ts <= data_end.ts - INTERVAL '3600 seconds'
)
SELECT
  visitor AS "DOMAIN_USERID",
  ts AS "ANCHOR_TS",
  goal_follows AS "LABEL"
FROM labelled
ORDER BY 1, 2
