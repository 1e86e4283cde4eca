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
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN TRUE END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.asked = e."domain_userid"
),
-- whether an event counts for each attribute, and the values of which each counts once
shown AS (
  SELECT
    visitor,
    ts,
    x1 IS NOT NULL AS x1_n
  FROM matched
),
-- running totals: how often each thing had happened, after each instant of a visitor; several counters share one
ones AS (
  SELECT
    visitor,
    ts,
    CASE WHEN x1_n THEN 1::HUGEINT ELSE 0 END AS total_1
  FROM shown
  UNION ALL
  SELECT visitor, CAST('-infinity' AS TIMESTAMP), 0
  FROM visitors
),
totals AS MATERIALIZED (
  SELECT visitor, ts, total_1
  FROM (
    SELECT
      visitor,
      ts,
      SUM(total_1) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_1,
      LEAD(ts) OVER () AS next_ts
    FROM (SELECT * FROM ones ORDER BY visitor, ts)
  ) AS running
  WHERE next_ts IS NULL OR next_ts <> ts
),
-- the number of each event that gives x1, as its running total counts them
x1_numbered AS (
  SELECT visitor, ts, x1 AS value, ROW_NUMBER() OVER (ORDER BY visitor, ts, x1) AS number
  FROM matched
  WHERE x1 IS NOT NULL
),
-- the totals at each moment, less those before each window
looked AS (
  SELECT
    a.visitor,
    a.ts,
    CASE WHEN CAST(((now.total_1 - before_1.total_1) & 4398046511103) AS BIGINT) > 0 THEN CAST(((now.total_1) & 4398046511103) AS BIGINT) END AS "a number"
  FROM (SELECT visitor, ts, CAST('-infinity' AS TIMESTAMP) AS ts_1 FROM moments_asked) AS a
  ASOF LEFT JOIN (SELECT visitor, ts, total_1 FROM totals) AS now ON now.visitor = a.visitor AND a.ts >= now.ts
  ASOF LEFT JOIN (SELECT visitor, ts, total_1 FROM totals) AS before_1 ON before_1.visitor = a.visitor AND a.ts_1 >= before_1.ts
)
-- each anchor with what was known at its moment
SELECT
  a.*,
  (epoch_us(CAST(a."anchor_ts" AS TIMESTAMP)) - epoch_us("a of".ts)) / 1e6 / 86400.0 AS "a"
FROM anchors AS a
LEFT JOIN visitors AS w ON w.asked = a."domain_userid"
LEFT JOIN moments_asked AS m ON m.visitor = w.visitor AND m.ts = CAST(a."anchor_ts" AS TIMESTAMP)
LEFT JOIN looked AS l
  ON l.visitor = m.visitor AND l.ts = m.ts
LEFT JOIN x1_numbered AS "a of"
  ON "a of".visitor = l.visitor AND "a of".number = l."a number"
ORDER BY a."domain_userid", a."anchor_ts"
