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
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("APP_ID" AS VARCHAR) END AS x1,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN "CONTEXTS_NL_BASJES_YAUAA_CONTEXT_1"[0]:"deviceClass"::VARCHAR END AS x2,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("DOMAIN_SESSIONID" AS VARCHAR) END AS x3,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN TRUE END AS x4,
    CASE WHEN "EVENT_NAME" = 'page_ping' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN TRUE END AS x5,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' AND CAST("PAGE_URL" AS VARCHAR) LIKE '%pricing%' THEN TRUE END AS x6,
    CASE WHEN "EVENT_NAME" = 'submit_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN TRUE END AS x7,
    CASE WHEN (("EVENT_NAME" = 'focus_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0') OR ("EVENT_NAME" = 'change_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0')) THEN TRUE END AS x8,
    CASE WHEN "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow.media' THEN TRUE END AS x9,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("REFR_MEDIUM" AS VARCHAR) END AS x10,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("MKT_MEDIUM" AS VARCHAR) END AS x11,
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("MKT_CAMPAIGN" AS VARCHAR) END AS x12
  FROM events AS e
  JOIN visitors AS v ON v.asked = e."DOMAIN_USERID"
),
-- whether an event counts for each attribute, and the values of which each counts once
shown AS (
  SELECT
    visitor,
    ts, x3, x1, x12,
    x1 IS NOT NULL AS x1_n,
    x2 IS NOT NULL AS x2_n,
    x3 IS NOT NULL AS x3_n,
    x4 IS NOT NULL AS x4_n,
    x5 IS NOT NULL AS x5_n,
    x6 IS NOT NULL AS x6_n,
    x7 IS NOT NULL AS x7_n,
    x8 IS NOT NULL AS x8_n,
    x9 IS NOT NULL AS x9_n,
    x10 IS NOT NULL AS x10_n,
    x11 IS NOT NULL AS x11_n,
    x12 IS NOT NULL AS x12_n
  FROM matched
),
-- for each value that is counted once: when the visitor showed it before, and when next
marked AS (
  SELECT
    *,
    LAG(ts) OVER (PARTITION BY visitor, x3 ORDER BY ts) AS x3_before,
    LEAD(ts) OVER (PARTITION BY visitor, x3 ORDER BY ts) AS x3_after,
    LAG(ts) OVER (PARTITION BY visitor, x1 ORDER BY ts) AS x1_before,
    LEAD(ts) OVER (PARTITION BY visitor, x1 ORDER BY ts) AS x1_after,
    LAG(ts) OVER (PARTITION BY visitor, x12 ORDER BY ts) AS x12_before,
    LEAD(ts) OVER (PARTITION BY visitor, x12 ORDER BY ts) AS x12_after
  FROM shown
  WHERE x3_n OR x1_n OR x12_n
  UNION ALL
  SELECT *, CAST(NULL AS TIMESTAMP_NTZ), CAST(NULL AS TIMESTAMP_NTZ), CAST(NULL AS TIMESTAMP_NTZ), CAST(NULL AS TIMESTAMP_NTZ), CAST(NULL AS TIMESTAMP_NTZ), CAST(NULL AS TIMESTAMP_NTZ)
  FROM shown
  WHERE NOT (x3_n OR x1_n OR x12_n)
),
-- running totals: how often each thing had happened, after each instant of a visitor
ones AS (
  SELECT
    visitor,
    ts,
    CASE WHEN x4_n THEN 1 ELSE 0 END AS total_1,
    CASE WHEN x5_n THEN 1 ELSE 0 END AS total_2,
    CASE WHEN x6_n THEN 1 ELSE 0 END AS total_3,
    CASE WHEN x7_n THEN 1 ELSE 0 END AS total_4,
    CASE WHEN x1_n THEN 1 ELSE 0 END AS total_5,
    CASE WHEN x2_n THEN 1 ELSE 0 END AS total_6,
    CASE WHEN x9_n THEN 1 ELSE 0 END AS total_7,
    CASE WHEN x10_n THEN 1 ELSE 0 END AS total_8,
    CASE WHEN x11_n THEN 1 ELSE 0 END AS total_9,
    CASE WHEN x3_n AND (x3_before IS NULL OR ts > x3_before + INTERVAL '2592000 seconds') THEN 1 ELSE 0 END AS total_10,
    CASE WHEN x3_n AND (x3_after IS NULL OR x3_after > ts + INTERVAL '2592000 seconds') THEN 1 ELSE 0 END AS total_11,
    CASE WHEN x1_n AND (x1_before IS NULL OR ts > x1_before + INTERVAL '2592000 seconds') THEN 1 ELSE 0 END AS total_12,
    CASE WHEN x1_n AND (x1_after IS NULL OR x1_after > ts + INTERVAL '2592000 seconds') THEN 1 ELSE 0 END AS total_13,
    CASE WHEN x12_n AND (x12_before IS NULL OR ts > x12_before + INTERVAL '2592000 seconds') THEN 1 ELSE 0 END AS total_14,
    CASE WHEN x12_n AND (x12_after IS NULL OR x12_after > ts + INTERVAL '2592000 seconds') THEN 1 ELSE 0 END AS total_15,
    CASE WHEN x8_n THEN 1 ELSE 0 END AS total_16,
    CASE WHEN x3_n AND (x3_before IS NULL OR ts > x3_before + INTERVAL '604800 seconds') THEN 1 ELSE 0 END AS total_17,
    CASE WHEN x3_n AND (x3_after IS NULL OR x3_after > ts + INTERVAL '604800 seconds') THEN 1 ELSE 0 END AS total_18,
    CASE WHEN x1_n AND (x1_before IS NULL OR ts > x1_before + INTERVAL '604800 seconds') THEN 1 ELSE 0 END AS total_19,
    CASE WHEN x1_n AND (x1_after IS NULL OR x1_after > ts + INTERVAL '604800 seconds') THEN 1 ELSE 0 END AS total_20
  FROM marked
  UNION ALL
  SELECT visitor, CAST('0001-01-01 00:00:00' AS TIMESTAMP_NTZ), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
  FROM visitors
),
totals AS (
  SELECT visitor, ts, total_1, total_2, total_3, total_4, total_5, total_6, total_7, total_8, total_9, total_10, total_11, total_12, total_13, total_14, total_15, total_16, total_17, total_18, total_19, total_20
  FROM (
    SELECT
      visitor,
      ts,
      SUM(total_1) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_1,
      SUM(total_2) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_2,
      SUM(total_3) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_3,
      SUM(total_4) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_4,
      SUM(total_5) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_5,
      SUM(total_6) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_6,
      SUM(total_7) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_7,
      SUM(total_8) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_8,
      SUM(total_9) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_9,
      SUM(total_10) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_10,
      SUM(total_11) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_11,
      SUM(total_12) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_12,
      SUM(total_13) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_13,
      SUM(total_14) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_14,
      SUM(total_15) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_15,
      SUM(total_16) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_16,
      SUM(total_17) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_17,
      SUM(total_18) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_18,
      SUM(total_19) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_19,
      SUM(total_20) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_20,
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
-- the number of each event that gives x2, as its running total counts them
x2_numbered AS (
  SELECT visitor, ts, x2 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x2) AS number
  FROM matched
  WHERE x2 IS NOT NULL
),
-- the number of each event that gives x10, as its running total counts them
x10_numbered AS (
  SELECT visitor, ts, x10 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x10) AS number
  FROM matched
  WHERE x10 IS NOT NULL
),
-- the number of each event that gives x11, as its running total counts them
x11_numbered AS (
  SELECT visitor, ts, x11 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x11) AS number
  FROM matched
  WHERE x11 IS NOT NULL
),
-- the totals at each moment, less those before each window
looked AS (
  SELECT
    a.visitor,
    a.ts,
    CASE WHEN CAST(now.total_5 - before_1.total_5 AS BIGINT) > 0 THEN CAST(now.total_5 AS BIGINT) END AS "LATEST_APP_ID NUMBER",
    CASE WHEN CAST(now.total_6 - before_1.total_6 AS BIGINT) > 0 THEN CAST(now.total_6 AS BIGINT) END AS "LATEST_DEVICE_CLASS NUMBER",
    NULLIF(CAST(now.total_17 - before_2.total_18 AS BIGINT), 0) AS "NUM_SESSIONS_L7D",
    NULLIF(CAST(now.total_10 - before_1.total_11 AS BIGINT), 0) AS "NUM_SESSIONS_L30D",
    NULLIF(CAST(now.total_19 - before_2.total_20 AS BIGINT), 0) AS "NUM_APPS_L7D",
    NULLIF(CAST(now.total_12 - before_1.total_13 AS BIGINT), 0) AS "NUM_APPS_L30D",
    NULLIF(CAST(now.total_1 - before_2.total_1 AS BIGINT), 0) AS "NUM_PAGE_VIEWS_L7D",
    NULLIF(CAST(now.total_1 - before_1.total_1 AS BIGINT), 0) AS "NUM_PAGE_VIEWS_L30D",
    NULLIF(CAST(now.total_2 - before_2.total_2 AS BIGINT), 0) AS "NUM_PAGE_PINGS_L7D",
    NULLIF(CAST(now.total_2 - before_1.total_2 AS BIGINT), 0) AS "NUM_PAGE_PINGS_L30D",
    NULLIF(CAST(now.total_3 - before_2.total_3 AS BIGINT), 0) AS "NUM_PRICING_VIEWS_L7D",
    NULLIF(CAST(now.total_3 - before_1.total_3 AS BIGINT), 0) AS "NUM_PRICING_VIEWS_L30D",
    NULLIF(CAST(now.total_4 - before_2.total_4 AS BIGINT), 0) AS "NUM_CONVERSIONS_L7D",
    NULLIF(CAST(now.total_4 - before_1.total_4 AS BIGINT), 0) AS "NUM_CONVERSIONS_L30D",
    NULLIF(CAST(now.total_16 - before_2.total_16 AS BIGINT), 0) AS "NUM_FORM_ENGAGEMENTS_L7D",
    NULLIF(CAST(now.total_7 - before_1.total_7 AS BIGINT), 0) AS "NUM_MEDIA_EVENTS_L30D",
    CASE WHEN CAST(now.total_8 - before_1.total_8 AS BIGINT) > 0 THEN CAST(before_1.total_8 AS BIGINT) + 1 END AS "FIRST_REFR_MEDIUM_L30D NUMBER",
    CASE WHEN CAST(now.total_9 - before_1.total_9 AS BIGINT) > 0 THEN CAST(before_1.total_9 AS BIGINT) + 1 END AS "FIRST_MKT_MEDIUM_L30D NUMBER",
    NULLIF(CAST(now.total_14 - before_1.total_15 AS BIGINT), 0) AS "NUM_ENGAGED_CAMPAIGNS_L30D"
  FROM (SELECT visitor, ts, ts - INTERVAL '2592000000001 microseconds' AS ts_1, ts - INTERVAL '604800000001 microseconds' AS ts_2 FROM moments_asked) AS a
  ASOF JOIN (SELECT visitor, ts, total_5, total_6, total_17, total_10, total_19, total_12, total_1, total_2, total_3, total_4, total_16, total_7, total_8, total_9, total_14 FROM totals) AS now MATCH_CONDITION (a.ts >= now.ts) ON now.visitor = a.visitor
  ASOF JOIN (SELECT visitor, ts, total_5, total_6, total_11, total_13, total_1, total_2, total_3, total_4, total_7, total_8, total_9, total_15 FROM totals) AS before_1 MATCH_CONDITION (a.ts_1 >= before_1.ts) ON before_1.visitor = a.visitor
  ASOF JOIN (SELECT visitor, ts, total_18, total_20, total_1, total_2, total_3, total_4, total_16 FROM totals) AS before_2 MATCH_CONDITION (a.ts_2 >= before_2.ts) ON before_2.visitor = a.visitor
)
-- each anchor with what was known at its moment
SELECT
  a.*,
  "LATEST_APP_ID OF".value AS "LATEST_APP_ID",
  "LATEST_DEVICE_CLASS OF".value AS "LATEST_DEVICE_CLASS",
  CASE WHEN l."NUM_SESSIONS_L7D" > 100 THEN 100 ELSE l."NUM_SESSIONS_L7D" END AS "NUM_SESSIONS_L7D",
  CASE WHEN l."NUM_SESSIONS_L30D" > 100 THEN 100 ELSE l."NUM_SESSIONS_L30D" END AS "NUM_SESSIONS_L30D",
  CASE WHEN l."NUM_APPS_L7D" > 100 THEN 100 ELSE l."NUM_APPS_L7D" END AS "NUM_APPS_L7D",
  CASE WHEN l."NUM_APPS_L30D" > 100 THEN 100 ELSE l."NUM_APPS_L30D" END AS "NUM_APPS_L30D",
  l."NUM_PAGE_VIEWS_L7D" AS "NUM_PAGE_VIEWS_L7D",
  l."NUM_PAGE_VIEWS_L30D" AS "NUM_PAGE_VIEWS_L30D",
  l."NUM_PAGE_PINGS_L7D" AS "NUM_PAGE_PINGS_L7D",
  l."NUM_PAGE_PINGS_L30D" AS "NUM_PAGE_PINGS_L30D",
  l."NUM_PRICING_VIEWS_L7D" AS "NUM_PRICING_VIEWS_L7D",
  l."NUM_PRICING_VIEWS_L30D" AS "NUM_PRICING_VIEWS_L30D",
  COALESCE(l."NUM_CONVERSIONS_L7D" <> 0, FALSE) AS "HAD_CONVERSIONS_L7D",
  COALESCE(l."NUM_CONVERSIONS_L30D" <> 0, FALSE) AS "HAD_CONVERSIONS_L30D",
  l."NUM_FORM_ENGAGEMENTS_L7D" AS "NUM_FORM_ENGAGEMENTS_L7D",
  l."NUM_MEDIA_EVENTS_L30D" AS "NUM_MEDIA_EVENTS_L30D",
  "FIRST_REFR_MEDIUM_L30D OF".value AS "FIRST_REFR_MEDIUM_L30D",
  "FIRST_MKT_MEDIUM_L30D OF".value AS "FIRST_MKT_MEDIUM_L30D",
  CASE WHEN l."NUM_ENGAGED_CAMPAIGNS_L30D" > 100 THEN 100 ELSE l."NUM_ENGAGED_CAMPAIGNS_L30D" END AS "NUM_ENGAGED_CAMPAIGNS_L30D",
  CAST(CAST(DATE_PART('dayofweekiso', CAST(a."ANCHOR_TS" AS TIMESTAMP_NTZ)) AS VARCHAR) AS INTEGER) AS "DAY_OF_WEEK"
FROM anchors AS a
LEFT JOIN visitors AS w ON w.asked = a."DOMAIN_USERID"
LEFT JOIN moments_asked AS m ON m.visitor = w.visitor AND m.ts = CAST(a."ANCHOR_TS" AS TIMESTAMP_NTZ)
LEFT JOIN looked AS l
  ON l.visitor = m.visitor AND l.ts = m.ts
LEFT JOIN x1_numbered AS "LATEST_APP_ID OF"
  ON "LATEST_APP_ID OF".visitor = l.visitor AND "LATEST_APP_ID OF".number = l."LATEST_APP_ID NUMBER"
LEFT JOIN x2_numbered AS "LATEST_DEVICE_CLASS OF"
  ON "LATEST_DEVICE_CLASS OF".visitor = l.visitor AND "LATEST_DEVICE_CLASS OF".number = l."LATEST_DEVICE_CLASS NUMBER"
LEFT JOIN x10_numbered AS "FIRST_REFR_MEDIUM_L30D OF"
  ON "FIRST_REFR_MEDIUM_L30D OF".visitor = l.visitor AND "FIRST_REFR_MEDIUM_L30D OF".number = l."FIRST_REFR_MEDIUM_L30D NUMBER"
LEFT JOIN x11_numbered AS "FIRST_MKT_MEDIUM_L30D OF"
  ON "FIRST_MKT_MEDIUM_L30D OF".visitor = l.visitor AND "FIRST_MKT_MEDIUM_L30D OF".number = l."FIRST_MKT_MEDIUM_L30D NUMBER"
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
