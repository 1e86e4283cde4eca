WITH
-- the visitors who are asked about
visitors AS MATERIALIZED (
  SELECT asked, CAST(ROW_NUMBER() OVER (ORDER BY asked) AS INTEGER) AS visitor
  FROM (SELECT DISTINCT a."domain_userid" AS asked FROM anchors AS a WHERE a."domain_userid" IS NOT NULL) AS d
),
-- the moments that are asked about
moments_asked AS MATERIALIZED (
  SELECT DISTINCT v.visitor, CAST(a."anchor_ts" AS TIMESTAMP) AS ts
  FROM anchors AS a
  JOIN visitors AS v ON v.asked = a."domain_userid"
),
-- what each event of theirs gives each attribute, NULL for nothing
matched AS MATERIALIZED (
  SELECT
    v.visitor,
    CAST(e."derived_tstamp" AS TIMESTAMP) AS ts,
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("app_id" AS VARCHAR) END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.asked = e."domain_userid"
),
-- a: where another value is seen, or one after too long a pause
"a seen" AS (
  SELECT
    visitor,
    ts,
    value,
    CASE WHEN value = LAG(value) OVER (PARTITION BY visitor ORDER BY ts, value)
      THEN 0 ELSE 1 END AS changed,
    CASE WHEN ts > LAG(ts) OVER (PARTITION BY visitor ORDER BY ts, value) + INTERVAL '604800 seconds' THEN 1 ELSE 0 END AS paused
  FROM (SELECT DISTINCT visitor, ts, x1 AS value FROM matched WHERE x1 IS NOT NULL) AS d
),
"a numbered" AS (
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
  FROM "a seen"
),
-- a: a run of one value stands until the value's next run, or until it is too old
"a runs" AS (
  SELECT
    visitor,
    value,
    run,
    MIN(ts) AS since,
    MAX(ts) + INTERVAL '604800 seconds' AS until,
    LEAD(MIN(ts)) OVER (PARTITION BY visitor, value ORDER BY run) AS again
  FROM "a numbered"
  GROUP BY visitor, value, run, life
),
"a" AS (
  SELECT m.visitor, m.ts, LIST(r.value ORDER BY r.run)[-100:] AS "a"
  FROM moments_asked AS m
  JOIN "a runs" AS r
    ON r.visitor = m.visitor
    AND r.since <= m.ts
    AND (r.again IS NULL OR r.again > m.ts)
    AND (r.until IS NULL OR r.until >= m.ts)
  GROUP BY m.visitor, m.ts
)
-- each anchor with what was known at its moment
SELECT
  a.*,
  "a of"."a" AS "a"
FROM anchors AS a
LEFT JOIN visitors AS w ON w.asked = a."domain_userid"
LEFT JOIN moments_asked AS m ON m.visitor = w.visitor AND m.ts = CAST(a."anchor_ts" AS TIMESTAMP)
LEFT JOIN "a" AS "a of"
  ON "a of".visitor = m.visitor AND "a of".ts = m.ts
ORDER BY a."domain_userid", a."anchor_ts"
