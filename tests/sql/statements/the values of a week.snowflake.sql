WITH
-- the visitors who are asked about
visitors AS (
  SELECT asked, asked AS visitor
  FROM (SELECT DISTINCT a."DOMAIN_USERID" AS asked FROM anchors AS a WHERE a."DOMAIN_USERID" IS NOT NULL) AS d
),
-- the moments that are asked about
moments_asked AS (
  SELECT DISTINCT v.visitor, CAST(a."ANCHOR_TS" AS TIMESTAMP_NTZ) AS ts
  FROM anchors AS a
  JOIN visitors AS v ON v.asked = a."DOMAIN_USERID"
),
-- what each event of theirs gives each attribute, NULL for nothing
matched AS (
  SELECT
    v.visitor,
    CAST(e."DERIVED_TSTAMP" AS TIMESTAMP_NTZ) AS ts,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("APP_ID" AS VARCHAR) END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.asked = e."DOMAIN_USERID"
),
-- a: where another value is seen, or one after too long a pause
"A SEEN" AS (
  SELECT
    visitor,
    ts,
    value,
    CASE WHEN value = LAG(value) OVER (PARTITION BY visitor ORDER BY ts, value)
      THEN 0 ELSE 1 END AS changed,
    CASE WHEN ts > LAG(ts) OVER (PARTITION BY visitor ORDER BY ts, value) + INTERVAL '604800 seconds' THEN 1 ELSE 0 END AS paused
  FROM (SELECT DISTINCT visitor, ts, x1 AS value FROM matched WHERE x1 IS NOT NULL) AS d
),
"A NUMBERED" AS (
  SELECT
    visitor,
    ts,
    value,
    SUM(paused) OVER (
      PARTITION BY visitor ORDER BY ts, value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS life,
    SUM(CASE WHEN changed + paused > 0 THEN 1 ELSE 0 END) OVER (
      PARTITION BY visitor ORDER BY ts, value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS run
  FROM "A SEEN"
),
-- a: a run of one value stands until the value's next run, or until it is too old
"A RUNS" AS (
  SELECT
    visitor,
    value,
    run,
    MIN(ts) AS since,
    MAX(ts) + INTERVAL '604800 seconds' AS until,
    LEAD(MIN(ts)) OVER (PARTITION BY visitor, value ORDER BY run) AS again
  FROM "A NUMBERED"
  GROUP BY visitor, value, run, life
),
"A" AS (
  SELECT m.visitor, m.ts, ARRAY_SLICE(ARRAY_AGG(r.value) WITHIN GROUP (ORDER BY r.run), GREATEST(CAST(ARRAY_SIZE(ARRAY_AGG(r.value) WITHIN GROUP (ORDER BY r.run)) AS BIGINT) - 100, 0), CAST(ARRAY_SIZE(ARRAY_AGG(r.value) WITHIN GROUP (ORDER BY r.run)) AS BIGINT)) AS "A"
  FROM moments_asked AS m
  JOIN "A RUNS" AS r
    ON r.visitor = m.visitor
    AND r.since <= m.ts
    AND (r.again IS NULL OR r.again > m.ts)
    AND (r.until IS NULL OR r.until >= m.ts)
  GROUP BY m.visitor, m.ts
)
-- each anchor with what was known at its moment
SELECT
  a.*,
  "A OF"."A" AS "A"
FROM anchors AS a
LEFT JOIN visitors AS w ON w.asked = a."DOMAIN_USERID"
LEFT JOIN moments_asked AS m ON m.visitor = w.visitor AND m.ts = CAST(a."ANCHOR_TS" AS TIMESTAMP_NTZ)
LEFT JOIN "A" AS "A OF"
  ON "A OF".visitor = m.visitor AND "A OF".ts = m.ts
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
