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
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN TRUE END AS x1
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
-- when each lifetime attribute was last updated before an instant
updates AS (
  SELECT *,
    MAX(CASE WHEN x1_n > 0 THEN ts END) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS "A BEFORE"
  FROM moments
),
-- a pause longer than its ttl begins a new life, in which counting starts afresh
births AS (
  SELECT *,
    CASE WHEN x1_n > 0 AND ("A BEFORE" IS NULL OR ts > "A BEFORE" + INTERVAL '3600 seconds') THEN 1 ELSE 0 END
      AS "A BIRTH"
  FROM updates
),
lives AS (
  SELECT *,
    SUM("A BIRTH") OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS "A LIFE"
  FROM births
),
-- the value of each of these attributes at each moment asked about
known AS (
  SELECT * FROM (
  SELECT
    visitor,
    ts,
    anchor,
    CASE WHEN MAX(CASE WHEN x1_n > 0 THEN ts END) OVER (PARTITION BY visitor, "A LIFE" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) >= ts - INTERVAL '3600 seconds' THEN CAST(NULLIF(SUM(x1_n) OVER (PARTITION BY visitor, "A LIFE" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), 0) AS BIGINT) END AS "A"
  FROM lives
  ) AS everywhere
  WHERE anchor = 1
)
-- each anchor with what was known at its moment
SELECT
  a.*,
  v."A" AS "A"
FROM anchors AS a
LEFT JOIN visitors AS w ON w.asked = a."DOMAIN_USERID"
LEFT JOIN moments_asked AS m ON m.visitor = w.visitor AND m.ts = CAST(a."ANCHOR_TS" AS TIMESTAMP_NTZ)
LEFT JOIN known AS v
  ON v.visitor = m.visitor AND v.ts = m.ts
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
