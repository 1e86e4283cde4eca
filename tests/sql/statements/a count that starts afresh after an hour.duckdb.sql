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
-- when each lifetime attribute was last updated before an instant
updates AS (
  SELECT *,
    MAX(CASE WHEN x1_n > 0 THEN ts END) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS "a before"
  FROM moments
),
-- a pause longer than its ttl begins a new life, in which counting starts afresh
births AS (
  SELECT *,
    CASE WHEN x1_n > 0 AND ("a before" IS NULL OR ts > "a before" + INTERVAL '3600 seconds') THEN 1 ELSE 0 END
      AS "a birth"
  FROM updates
),
lives AS (
  SELECT *,
    SUM("a birth") OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS "a life"
  FROM births
),
-- the value of each of these attributes at each moment asked about
known AS (
  SELECT * FROM (
  SELECT
    visitor,
    ts,
    anchor,
    CASE WHEN MAX(CASE WHEN x1_n > 0 THEN ts END) OVER (PARTITION BY visitor, "a life" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) >= ts - INTERVAL '3600 seconds' THEN CAST(NULLIF(SUM(x1_n) OVER (PARTITION BY visitor, "a life" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), 0) AS BIGINT) END AS "a"
  FROM lives
  ) AS everywhere
  WHERE anchor = 1
)
-- each anchor with what was known at its moment
SELECT
  a.*,
  v."a" AS "a"
FROM anchors AS a
LEFT JOIN visitors AS w ON w.asked = a."domain_userid"
LEFT JOIN moments_asked AS m ON m.visitor = w.visitor AND m.ts = CAST(a."anchor_ts" AS TIMESTAMP)
LEFT JOIN known AS v
  ON v.visitor = m.visitor AND v.ts = m.ts
ORDER BY a."domain_userid", a."anchor_ts"
