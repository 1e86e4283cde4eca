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
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN "CONTEXTS_NL_BASJES_YAUAA_CONTEXT_1"[0]:"class"::VARCHAR END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.asked = e."DOMAIN_USERID"
),
-- whether an event counts for each attribute, and the values of which each counts once
shown AS (
  SELECT
    visitor,
    ts,
    x1 IS NOT NULL AS x1_n
  FROM matched
),
-- running totals: how often each thing had happened, after each instant of a visitor
ones AS (
  SELECT
    visitor,
    ts,
    CASE WHEN x1_n THEN 1 ELSE 0 END AS total_1
  FROM shown
  UNION ALL
  SELECT visitor, CAST('0001-01-01 00:00:00' AS TIMESTAMP_NTZ), 0
  FROM visitors
),
totals AS (
  SELECT visitor, ts, total_1
  FROM (
    SELECT
      visitor,
      ts,
      SUM(total_1) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_1,
      LEAD(ts) OVER (PARTITION BY visitor ORDER BY ts) AS next_ts
    FROM ones
  ) AS running
  WHERE next_ts IS NULL OR next_ts <> ts
),
-- the number of each event that gives x1, as its running total counts them
x1_numbered AS (
  SELECT visitor, ts, x1 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x1) AS number
  FROM matched
  WHERE x1 IS NOT NULL
),
-- the totals at each moment, less those before each window
looked AS (
  SELECT
    a.visitor,
    a.ts,
    CASE WHEN CAST(now.total_1 - before_1.total_1 AS BIGINT) > 0 THEN CAST(now.total_1 AS BIGINT) END AS "A NUMBER"
  FROM (SELECT visitor, ts, CAST('0001-01-01 00:00:00' AS TIMESTAMP_NTZ) AS ts_1 FROM moments_asked) AS a
  ASOF JOIN (SELECT visitor, ts, total_1 FROM totals) AS now MATCH_CONDITION (a.ts >= now.ts) ON now.visitor = a.visitor
  ASOF JOIN (SELECT visitor, ts, total_1 FROM totals) AS before_1 MATCH_CONDITION (a.ts_1 >= before_1.ts) ON before_1.visitor = a.visitor
)
-- each anchor with what was known at its moment
SELECT
  a.*,
  "A OF".value AS "A"
FROM anchors AS a
LEFT JOIN visitors AS w ON w.asked = a."DOMAIN_USERID"
LEFT JOIN moments_asked AS m ON m.visitor = w.visitor AND m.ts = CAST(a."ANCHOR_TS" AS TIMESTAMP_NTZ)
LEFT JOIN looked AS l
  ON l.visitor = m.visitor AND l.ts = m.ts
LEFT JOIN x1_numbered AS "A OF"
  ON "A OF".visitor = l.visitor AND "A OF".number = l."A NUMBER"
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
