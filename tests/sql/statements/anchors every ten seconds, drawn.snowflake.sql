WITH
-- the events that count
seen AS (
  SELECT
    "DOMAIN_USERID" AS visitor,
    CAST("DERIVED_TSTAMP" AS TIMESTAMP_NTZ) AS ts,
    "DOMAIN_SESSIONID" AS session,
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
-- how many events each visitor had had, after each instant
so_far AS (
  SELECT
    visitor,
    ts,
    SUM(COUNT(*)) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS events
  FROM seen
  GROUP BY visitor, ts
),
-- the moments at which a visitor is scored
places AS (
  SELECT visitor, ts, MIN(session) AS session
  FROM (
    SELECT visitor, ts, session FROM seen WHERE anchor = 1
    UNION ALL
    SELECT visitor, DATEADD('microsecond', passed, started) AS ts, session
    FROM (
      SELECT
        visitor,
        session,
        MIN(ts) OVER (PARTITION BY visitor, session) AS started,
        CAST(CEIL(DATEDIFF('microsecond', MIN(ts) OVER (PARTITION BY visitor, session), ts) / 10000000.0) AS BIGINT) * 10000000 AS passed
      FROM seen
    ) AS present
  ) AS everywhere
  GROUP BY visitor, ts
),
-- those whose horizon the data covers: of the others the label is not known
eligible AS (
  SELECT
    p.visitor,
    p.ts,
    COALESCE(goal.ts <= p.ts + INTERVAL '3600 seconds', FALSE) AS positive,
    MD5(CONCAT(p.visitor, ' ', CAST(DATEDIFF('microsecond', CAST('1970-01-01' AS TIMESTAMP_NTZ), p.ts) AS VARCHAR), ' 0')) AS lot,
    ROW_NUMBER() OVER (PARTITION BY p.visitor, p.session ORDER BY MD5(CONCAT(p.visitor, ' ', CAST(DATEDIFF('microsecond', CAST('1970-01-01' AS TIMESTAMP_NTZ), p.ts) AS VARCHAR), ' 0')), p.ts) AS place
  FROM places AS p
  ASOF JOIN goals AS goal MATCH_CONDITION (p.ts < goal.ts) ON goal.visitor = p.visitor
  ASOF JOIN so_far AS before MATCH_CONDITION (p.ts > before.ts) ON before.visitor = p.visitor
  CROSS JOIN ending
  WHERE p.ts <= ending.data_end - INTERVAL '3600 seconds' AND before.events >= 2
)
SELECT
  visitor AS "DOMAIN_USERID",
  ts AS "ANCHOR_TS",
  positive AS "LABEL",
  CASE WHEN positive THEN 1.0 ELSE 10.0 END AS "WEIGHT"
FROM eligible
WHERE place <= 3
AND (positive OR SUBSTR(lot, 17, 8) < '1999999a')
ORDER BY 1, 2
