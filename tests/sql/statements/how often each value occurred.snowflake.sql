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
-- what happened at each instant of a visitor's time line, the moments asked about among them
moments AS (
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
"A LINE" AS (
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
"A COUNTED" AS (
  SELECT
    visitor,
    value,
    ts,
    anchor,
    CAST(SUM(n) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS BIGINT) AS n,
    MIN(CASE WHEN n > 0 THEN ts END) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS first_seen,
    MAX(CASE WHEN n > 0 THEN ts END) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS last_seen
  FROM "A LINE"
),
-- a: the values by how often they occurred; of equals the earliest seen first
"A RANKED" AS (
  SELECT
    visitor,
    ts,
    value,
    n,
    MAX(last_seen) OVER (PARTITION BY visitor, ts) AS updated,
    ROW_NUMBER() OVER (PARTITION BY visitor, ts ORDER BY n DESC, first_seen, value) AS place
  FROM "A COUNTED"
  WHERE anchor = 1 AND n > 0
),
"A" AS (
  SELECT visitor, ts, OBJECT_AGG(value, n) AS "A"
  FROM "A RANKED"
  WHERE place <= 100
  GROUP BY visitor, ts
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
