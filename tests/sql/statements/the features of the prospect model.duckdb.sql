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
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("app_id" AS VARCHAR) END AS x1,
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN (CAST("contexts_nl_basjes_yauaa_context_1" AS JSON) ->> '$[0]."deviceClass"') END AS x2,
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("domain_sessionid" AS VARCHAR) END AS x3,
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN TRUE END AS x4,
    CASE WHEN "event_name" = 'page_ping' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN TRUE END AS x5,
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' AND CAST("page_url" AS VARCHAR) LIKE '%pricing%' THEN TRUE END AS x6,
    CASE WHEN "event_name" = 'submit_form' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN TRUE END AS x7,
    CASE WHEN (("event_name" = 'focus_form' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0') OR ("event_name" = 'change_form' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0')) THEN TRUE END AS x8,
    CASE WHEN "event_vendor" = 'com.snowplowanalytics.snowplow.media' THEN TRUE END AS x9,
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("refr_medium" AS VARCHAR) END AS x10,
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("mkt_medium" AS VARCHAR) END AS x11,
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("mkt_campaign" AS VARCHAR) END AS x12
  FROM events AS e
  JOIN visitors AS v ON v.asked = e."domain_userid"
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
  SELECT *, CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP)
  FROM shown
  WHERE NOT (x3_n OR x1_n OR x12_n)
),
-- running totals: how often each thing had happened, after each instant of a visitor; several counters share one
ones AS (
  SELECT
    visitor,
    ts,
    CASE WHEN x4_n THEN 1::HUGEINT ELSE 0 END + CASE WHEN x5_n THEN 4398046511104::HUGEINT ELSE 0 END + CASE WHEN x6_n THEN 19342813113834066795298816::HUGEINT ELSE 0 END AS total_1,
    CASE WHEN x7_n THEN 1::HUGEINT ELSE 0 END + CASE WHEN x1_n THEN 4398046511104::HUGEINT ELSE 0 END + CASE WHEN x2_n THEN 19342813113834066795298816::HUGEINT ELSE 0 END AS total_2,
    CASE WHEN x9_n THEN 1::HUGEINT ELSE 0 END + CASE WHEN x10_n THEN 4398046511104::HUGEINT ELSE 0 END + CASE WHEN x11_n THEN 19342813113834066795298816::HUGEINT ELSE 0 END AS total_3,
    CASE WHEN x3_n AND (x3_before IS NULL OR ts > x3_before + INTERVAL '2592000 seconds') THEN 1::HUGEINT ELSE 0 END + CASE WHEN x1_n AND (x1_before IS NULL OR ts > x1_before + INTERVAL '2592000 seconds') THEN 4398046511104::HUGEINT ELSE 0 END + CASE WHEN x12_n AND (x12_before IS NULL OR ts > x12_before + INTERVAL '2592000 seconds') THEN 19342813113834066795298816::HUGEINT ELSE 0 END AS total_4,
    CASE WHEN x3_n AND (x3_after IS NULL OR x3_after > ts + INTERVAL '2592000 seconds') THEN 1::HUGEINT ELSE 0 END + CASE WHEN x1_n AND (x1_after IS NULL OR x1_after > ts + INTERVAL '2592000 seconds') THEN 4398046511104::HUGEINT ELSE 0 END + CASE WHEN x12_n AND (x12_after IS NULL OR x12_after > ts + INTERVAL '2592000 seconds') THEN 19342813113834066795298816::HUGEINT ELSE 0 END AS total_5,
    CASE WHEN x7_n THEN 1::HUGEINT ELSE 0 END + CASE WHEN x8_n THEN 4398046511104::HUGEINT ELSE 0 END AS total_6,
    CASE WHEN x3_n AND (x3_before IS NULL OR ts > x3_before + INTERVAL '604800 seconds') THEN 1::HUGEINT ELSE 0 END + CASE WHEN x1_n AND (x1_before IS NULL OR ts > x1_before + INTERVAL '604800 seconds') THEN 4398046511104::HUGEINT ELSE 0 END AS total_7,
    CASE WHEN x3_n AND (x3_after IS NULL OR x3_after > ts + INTERVAL '604800 seconds') THEN 1::HUGEINT ELSE 0 END + CASE WHEN x1_n AND (x1_after IS NULL OR x1_after > ts + INTERVAL '604800 seconds') THEN 4398046511104::HUGEINT ELSE 0 END AS total_8
  FROM marked
  UNION ALL
  SELECT visitor, CAST('-infinity' AS TIMESTAMP), 0, 0, 0, 0, 0, 0, 0, 0
  FROM visitors
),
totals AS MATERIALIZED (
  SELECT visitor, ts, total_1, total_2, total_3, total_4, total_5, total_6, total_7, total_8
  FROM (
    SELECT
      visitor,
      ts,
      SUM(total_1) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_1,
      SUM(total_2) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_2,
      SUM(total_3) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_3,
      SUM(total_4) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_4,
      SUM(total_5) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_5,
      SUM(total_6) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_6,
      SUM(total_7) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_7,
      SUM(total_8) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total_8,
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
-- the number of each event that gives x2, as its running total counts them
x2_numbered AS (
  SELECT visitor, ts, x2 AS value, ROW_NUMBER() OVER (ORDER BY visitor, ts, x2) AS number
  FROM matched
  WHERE x2 IS NOT NULL
),
-- the number of each event that gives x10, as its running total counts them
x10_numbered AS (
  SELECT visitor, ts, x10 AS value, ROW_NUMBER() OVER (ORDER BY visitor, ts, x10) AS number
  FROM matched
  WHERE x10 IS NOT NULL
),
-- the number of each event that gives x11, as its running total counts them
x11_numbered AS (
  SELECT visitor, ts, x11 AS value, ROW_NUMBER() OVER (ORDER BY visitor, ts, x11) AS number
  FROM matched
  WHERE x11 IS NOT NULL
),
-- the totals at each moment, less those before each window
looked AS (
  SELECT
    a.visitor,
    a.ts,
    CASE WHEN CAST((((now.total_2 - before_1.total_2) >> 42) & 4398046511103) AS BIGINT) > 0 THEN CAST((((now.total_2) >> 42) & 4398046511103) AS BIGINT) END AS "latest_app_id number",
    CASE WHEN CAST((((now.total_2 - before_1.total_2) >> 84) & 4398046511103) AS BIGINT) > 0 THEN CAST((((now.total_2) >> 84) & 4398046511103) AS BIGINT) END AS "latest_device_class number",
    NULLIF(CAST(((now.total_7 - before_2.total_8) & 4398046511103) AS BIGINT), 0) AS "num_sessions_l7d",
    NULLIF(CAST(((now.total_4 - before_1.total_5) & 4398046511103) AS BIGINT), 0) AS "num_sessions_l30d",
    NULLIF(CAST((((now.total_7 - before_2.total_8) >> 42) & 4398046511103) AS BIGINT), 0) AS "num_apps_l7d",
    NULLIF(CAST((((now.total_4 - before_1.total_5) >> 42) & 4398046511103) AS BIGINT), 0) AS "num_apps_l30d",
    NULLIF(CAST(((now.total_1 - before_2.total_1) & 4398046511103) AS BIGINT), 0) AS "num_page_views_l7d",
    NULLIF(CAST(((now.total_1 - before_1.total_1) & 4398046511103) AS BIGINT), 0) AS "num_page_views_l30d",
    NULLIF(CAST((((now.total_1 - before_2.total_1) >> 42) & 4398046511103) AS BIGINT), 0) AS "num_page_pings_l7d",
    NULLIF(CAST((((now.total_1 - before_1.total_1) >> 42) & 4398046511103) AS BIGINT), 0) AS "num_page_pings_l30d",
    NULLIF(CAST((((now.total_1 - before_2.total_1) >> 84) & 4398046511103) AS BIGINT), 0) AS "num_pricing_views_l7d",
    NULLIF(CAST((((now.total_1 - before_1.total_1) >> 84) & 4398046511103) AS BIGINT), 0) AS "num_pricing_views_l30d",
    NULLIF(CAST(((now.total_6 - before_2.total_6) & 4398046511103) AS BIGINT), 0) AS "num_conversions_l7d",
    NULLIF(CAST(((now.total_2 - before_1.total_2) & 4398046511103) AS BIGINT), 0) AS "num_conversions_l30d",
    NULLIF(CAST((((now.total_6 - before_2.total_6) >> 42) & 4398046511103) AS BIGINT), 0) AS "num_form_engagements_l7d",
    NULLIF(CAST(((now.total_3 - before_1.total_3) & 4398046511103) AS BIGINT), 0) AS "num_media_events_l30d",
    CASE WHEN CAST((((now.total_3 - before_1.total_3) >> 42) & 4398046511103) AS BIGINT) > 0 THEN CAST((((before_1.total_3) >> 42) & 4398046511103) AS BIGINT) + 1 END AS "first_refr_medium_l30d number",
    CASE WHEN CAST((((now.total_3 - before_1.total_3) >> 84) & 4398046511103) AS BIGINT) > 0 THEN CAST((((before_1.total_3) >> 84) & 4398046511103) AS BIGINT) + 1 END AS "first_mkt_medium_l30d number",
    NULLIF(CAST((((now.total_4 - before_1.total_5) >> 84) & 4398046511103) AS BIGINT), 0) AS "num_engaged_campaigns_l30d"
  FROM (SELECT visitor, ts, ts - INTERVAL '2592000000001 microseconds' AS ts_1, ts - INTERVAL '604800000001 microseconds' AS ts_2 FROM moments_asked) AS a
  ASOF LEFT JOIN (SELECT visitor, ts, total_2, total_7, total_4, total_1, total_6, total_3 FROM totals) AS now ON now.visitor = a.visitor AND a.ts >= now.ts
  ASOF LEFT JOIN (SELECT visitor, ts, total_2, total_5, total_1, total_3 FROM totals) AS before_1 ON before_1.visitor = a.visitor AND a.ts_1 >= before_1.ts
  ASOF LEFT JOIN (SELECT visitor, ts, total_8, total_1, total_6 FROM totals) AS before_2 ON before_2.visitor = a.visitor AND a.ts_2 >= before_2.ts
)
-- each anchor with what was known at its moment
SELECT
  a.*,
  "latest_app_id of".value AS "latest_app_id",
  "latest_device_class of".value AS "latest_device_class",
  CASE WHEN l."num_sessions_l7d" > 100 THEN 100 ELSE l."num_sessions_l7d" END AS "num_sessions_l7d",
  CASE WHEN l."num_sessions_l30d" > 100 THEN 100 ELSE l."num_sessions_l30d" END AS "num_sessions_l30d",
  CASE WHEN l."num_apps_l7d" > 100 THEN 100 ELSE l."num_apps_l7d" END AS "num_apps_l7d",
  CASE WHEN l."num_apps_l30d" > 100 THEN 100 ELSE l."num_apps_l30d" END AS "num_apps_l30d",
  l."num_page_views_l7d" AS "num_page_views_l7d",
  l."num_page_views_l30d" AS "num_page_views_l30d",
  l."num_page_pings_l7d" AS "num_page_pings_l7d",
  l."num_page_pings_l30d" AS "num_page_pings_l30d",
  l."num_pricing_views_l7d" AS "num_pricing_views_l7d",
  l."num_pricing_views_l30d" AS "num_pricing_views_l30d",
  COALESCE(l."num_conversions_l7d" <> 0, FALSE) AS "had_conversions_l7d",
  COALESCE(l."num_conversions_l30d" <> 0, FALSE) AS "had_conversions_l30d",
  l."num_form_engagements_l7d" AS "num_form_engagements_l7d",
  l."num_media_events_l30d" AS "num_media_events_l30d",
  "first_refr_medium_l30d of".value AS "first_refr_medium_l30d",
  "first_mkt_medium_l30d of".value AS "first_mkt_medium_l30d",
  CASE WHEN l."num_engaged_campaigns_l30d" > 100 THEN 100 ELSE l."num_engaged_campaigns_l30d" END AS "num_engaged_campaigns_l30d",
  CAST(CAST(DATE_PART('isodow', CAST(a."anchor_ts" AS TIMESTAMP)) AS VARCHAR) AS INTEGER) AS "day_of_week"
FROM anchors AS a
LEFT JOIN visitors AS w ON w.asked = a."domain_userid"
LEFT JOIN moments_asked AS m ON m.visitor = w.visitor AND m.ts = CAST(a."anchor_ts" AS TIMESTAMP)
LEFT JOIN looked AS l
  ON l.visitor = m.visitor AND l.ts = m.ts
LEFT JOIN x1_numbered AS "latest_app_id of"
  ON "latest_app_id of".visitor = l.visitor AND "latest_app_id of".number = l."latest_app_id number"
LEFT JOIN x2_numbered AS "latest_device_class of"
  ON "latest_device_class of".visitor = l.visitor AND "latest_device_class of".number = l."latest_device_class number"
LEFT JOIN x10_numbered AS "first_refr_medium_l30d of"
  ON "first_refr_medium_l30d of".visitor = l.visitor AND "first_refr_medium_l30d of".number = l."first_refr_medium_l30d number"
LEFT JOIN x11_numbered AS "first_mkt_medium_l30d of"
  ON "first_mkt_medium_l30d of".visitor = l.visitor AND "first_mkt_medium_l30d of".number = l."first_mkt_medium_l30d number"
ORDER BY a."domain_userid", a."anchor_ts"
