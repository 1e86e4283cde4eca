WITH
-- the events that count
seen AS (
  SELECT
    "DOMAIN_USERID" AS visitor,
    CAST("DERIVED_TSTAMP" AS TIMESTAMP_NTZ) AS ts,
    NULL AS session,
    NULL AS app,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN 1 ELSE 0 END AS anchor,
    CASE WHEN "EVENT_NAME" = 'submit_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN 1 ELSE 0 END AS goal
  FROM events
  WHERE "DOMAIN_USERID" IS NOT NULL
),
ending AS (
  SELECT MAX(ts) AS data_end FROM seen
),
goals AS (
  SELECT visitor, ts FROM seen WHERE goal = 1 GROUP BY visitor, ts
),
-- the moments at which a visitor is scored
places AS (
  SELECT visitor, ts, MIN(session) AS session
  FROM (
    SELECT visitor, ts, session FROM seen WHERE anchor = 1
  ) AS everywhere
  GROUP BY visitor, ts
),
-- those whose horizon the data covers: of the others the label is not known
eligible AS (
  SELECT
    p.visitor,
    p.ts,
    COALESCE(goal.ts <= p.ts + INTERVAL '3600 seconds', FALSE) AS positive
  FROM places AS p
  ASOF JOIN goals AS goal MATCH_CONDITION (p.ts < goal.ts) ON goal.visitor = p.visitor
  CROSS JOIN ending
  WHERE p.ts <= ending.data_end - INTERVAL '3600 seconds'
)
SELECT
  visitor AS "DOMAIN_USERID",
  ts AS "ANCHOR_TS",
  positive AS "LABEL"
FROM eligible
ORDER BY 1, 2
