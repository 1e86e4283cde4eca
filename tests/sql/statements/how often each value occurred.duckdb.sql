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
-- what happened at each instant of a visitor's time line, the moments asked about among them
moments AS MATERIALIZED (
  SELECT
    visitor,
    ts,
    MAX(anchor) AS anchor,
    CAST(COUNT(x1) AS INTEGER) AS x1_n
  FROM (
    SELECT visitor, ts, 0 AS anchor, x1 FROM matched
    UNION ALL
    SELECT visitor, ts, 1, NULL FROM moments_asked
  ) AS instants
  GROUP BY visitor, ts
),
-- a: a time line of its own for each value of a visitor
"a line" AS (
  SELECT d.visitor, d.value, m.ts, m.anchor, COALESCE(c.n, 0) AS n
  FROM (SELECT DISTINCT visitor, x1 AS value FROM matched WHERE x1 IS NOT NULL) AS d
  JOIN moments AS m
    ON m.visitor = d.visitor AND (m.anchor = 1 OR m.x1_n > 0)
  LEFT JOIN (
    SELECT visitor, ts, x1 AS value, COUNT(*) AS n
    FROM matched
    WHERE x1 IS NOT NULL
    GROUP BY visitor, ts, x1
  ) AS c
    ON c.visitor = d.visitor AND c.ts = m.ts AND c.value = d.value
),
"a counted" AS (
  SELECT
    visitor,
    value,
    ts,
    anchor,
    CAST(SUM(n) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS BIGINT) AS n,
    MIN(CASE WHEN n > 0 THEN ts END) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS first_seen,
    MAX(CASE WHEN n > 0 THEN ts END) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS last_seen
  FROM "a line"
),
-- a: the values by how often they occurred; of equals the earliest seen first
"a ranked" AS (
  SELECT
    visitor,
    ts,
    value,
    n,
    MAX(last_seen) OVER (PARTITION BY visitor, ts) AS updated,
    ROW_NUMBER() OVER (PARTITION BY visitor, ts ORDER BY n DESC, first_seen, value) AS place
  FROM "a counted"
  WHERE anchor = 1 AND n > 0
),
"a" AS (
  SELECT visitor, ts, CAST(MAP(LIST(value ORDER BY place), LIST(n ORDER BY place)) AS JSON) AS "a"
  FROM "a ranked"
  WHERE place <= 100
  GROUP BY visitor, ts
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
