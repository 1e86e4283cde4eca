WITH
-- the anchors, with the visitor as text and the instant in UTC
anchor_rows AS (
  SELECT a.* REPLACE (CAST(a."DOMAIN_USERID" AS VARCHAR) AS "DOMAIN_USERID", CASE WHEN STARTSWITH(SYSTEM$TYPEOF(a."ANCHOR_TS"), 'TIMESTAMP_NTZ') THEN a."ANCHOR_TS"::TIMESTAMP_NTZ WHEN STARTSWITH(SYSTEM$TYPEOF(a."ANCHOR_TS"), 'TIMESTAMP') THEN CONVERT_TIMEZONE('UTC', a."ANCHOR_TS"::TIMESTAMP_TZ)::TIMESTAMP_NTZ ELSE CASE WHEN REGEXP_LIKE(a."ANCHOR_TS"::VARCHAR, '.*[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CONVERT_TIMEZONE('UTC', TO_TIMESTAMP_TZ(REPLACE(a."ANCHOR_TS"::VARCHAR, ' UTC', 'Z')))::TIMESTAMP_NTZ ELSE TO_TIMESTAMP_NTZ(a."ANCHOR_TS"::VARCHAR) END END AS "ANCHOR_TS")
  FROM anchors AS a
),
-- the visitors of the anchors
visitors AS (
  SELECT visitor_key, visitor_key AS visitor
  FROM (
    SELECT DISTINCT a."DOMAIN_USERID" AS visitor_key
    FROM anchor_rows AS a
    WHERE a."DOMAIN_USERID" NOT IN ('', '00000000-0000-0000-0000-000000000000')
  ) AS distinct_keys
),
-- the instants of each visitor's anchors
anchor_times AS (
  SELECT DISTINCT v.visitor, a."ANCHOR_TS" AS ts
  FROM anchor_rows AS a
  JOIN visitors AS v ON v.visitor_key = a."DOMAIN_USERID"
),
-- the value that each event has for the attributes named above it, NULL if it does not count
matched AS (
  SELECT
    v.visitor,
    CASE WHEN STARTSWITH(SYSTEM$TYPEOF(e."DERIVED_TSTAMP"), 'TIMESTAMP_NTZ') THEN e."DERIVED_TSTAMP"::TIMESTAMP_NTZ WHEN STARTSWITH(SYSTEM$TYPEOF(e."DERIVED_TSTAMP"), 'TIMESTAMP') THEN CONVERT_TIMEZONE('UTC', e."DERIVED_TSTAMP"::TIMESTAMP_TZ)::TIMESTAMP_NTZ ELSE CASE WHEN REGEXP_LIKE(e."DERIVED_TSTAMP"::VARCHAR, '.*[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CONVERT_TIMEZONE('UTC', TO_TIMESTAMP_TZ(REPLACE(e."DERIVED_TSTAMP"::VARCHAR, ' UTC', 'Z')))::TIMESTAMP_NTZ ELSE TO_TIMESTAMP_NTZ(e."DERIVED_TSTAMP"::VARCHAR) END END AS ts,
    -- latest_app_id, num_apps_l7d, num_apps_l30d
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("APP_ID" AS VARCHAR) END AS x1,
    -- latest_device_class
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN COALESCE(CASE WHEN TYPEOF("CONTEXTS_NL_BASJES_YAUAA_CONTEXT_1"[0]:"deviceClass") IN ('DOUBLE', 'DECIMAL', 'OBJECT', 'ARRAY') THEN REGEXP_REPLACE(CAST(TRY_CAST("CONTEXTS_NL_BASJES_YAUAA_CONTEXT_1"[0]:"deviceClass"::VARCHAR AS DOUBLE) + 0.0 AS VARCHAR), '[.]0$', '') ELSE "CONTEXTS_NL_BASJES_YAUAA_CONTEXT_1"[0]:"deviceClass"::VARCHAR END, CASE WHEN TYPEOF("CONTEXTS_NL_BASJES_YAUAA_CONTEXT_1"[0]:"device_class") IN ('DOUBLE', 'DECIMAL', 'OBJECT', 'ARRAY') THEN REGEXP_REPLACE(CAST(TRY_CAST("CONTEXTS_NL_BASJES_YAUAA_CONTEXT_1"[0]:"device_class"::VARCHAR AS DOUBLE) + 0.0 AS VARCHAR), '[.]0$', '') ELSE "CONTEXTS_NL_BASJES_YAUAA_CONTEXT_1"[0]:"device_class"::VARCHAR END) END AS x2,
    -- num_sessions_l7d, num_sessions_l30d
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("DOMAIN_SESSIONID" AS VARCHAR) END AS x3,
    -- num_page_views_l7d, num_page_views_l30d, num_page_views_l1h
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN TRUE END AS x4,
    -- num_page_pings_l7d, num_page_pings_l30d
    CASE WHEN "EVENT_NAME" = 'page_ping' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN TRUE END AS x5,
    -- num_pricing_views_l7d, num_pricing_views_l30d
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' AND CAST("PAGE_URL" AS VARCHAR) LIKE '%pricing%' THEN TRUE END AS x6,
    -- num_conversions_l7d, num_conversions_l30d
    CASE WHEN "EVENT_NAME" = 'submit_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN TRUE END AS x7,
    -- num_form_engagements_l7d
    CASE WHEN (("EVENT_NAME" = 'focus_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0') OR ("EVENT_NAME" = 'change_form' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0')) THEN TRUE END AS x8,
    -- num_media_events_l30d
    CASE WHEN "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow.media' THEN TRUE END AS x9,
    -- first_refr_medium_l30d
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("REFR_MEDIUM" AS VARCHAR) END AS x10,
    -- first_mkt_medium_l30d
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("MKT_MEDIUM" AS VARCHAR) END AS x11,
    -- num_engaged_campaigns_l30d
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("MKT_CAMPAIGN" AS VARCHAR) END AS x12,
    -- last_page_path, first_page_path_l1h
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("PAGE_URLPATH" AS VARCHAR) END AS x13,
    -- num_key_page_views_l1h
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' AND (CAST("PAGE_URLPATH" AS VARCHAR) = '/pricing' OR CAST("PAGE_URLPATH" AS VARCHAR) = '/customers' OR CAST("PAGE_URLPATH" AS VARCHAR) = '/videos' OR CAST("PAGE_URLPATH" AS VARCHAR) = '/demo') THEN TRUE END AS x14
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = CAST(e."DOMAIN_USERID" AS VARCHAR)
),
-- when the visitor had the same x3 before, and when next
x3_neighbours AS (
  SELECT
    visitor,
    ts,
    LAG(ts) OVER (PARTITION BY visitor, x3 ORDER BY ts) AS previous_ts,
    LEAD(ts) OVER (PARTITION BY visitor, x3 ORDER BY ts) AS next_ts
  FROM matched
  WHERE x3 IS NOT NULL
),
-- whether the value enters or leaves a window
x3_changes AS (
  SELECT
    visitor,
    ts,
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '604800 seconds' AS x3_entered_7d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '604800 seconds' AS x3_left_7d,
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '2592000 seconds' AS x3_entered_30d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '2592000 seconds' AS x3_left_30d
  FROM x3_neighbours
),
-- when the visitor had the same x1 before, and when next
x1_neighbours AS (
  SELECT
    visitor,
    ts,
    LAG(ts) OVER (PARTITION BY visitor, x1 ORDER BY ts) AS previous_ts,
    LEAD(ts) OVER (PARTITION BY visitor, x1 ORDER BY ts) AS next_ts
  FROM matched
  WHERE x1 IS NOT NULL
),
-- whether the value enters or leaves a window
x1_changes AS (
  SELECT
    visitor,
    ts,
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '604800 seconds' AS x1_entered_7d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '604800 seconds' AS x1_left_7d,
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '2592000 seconds' AS x1_entered_30d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '2592000 seconds' AS x1_left_30d
  FROM x1_neighbours
),
-- when the visitor had the same x12 before, and when next
x12_neighbours AS (
  SELECT
    visitor,
    ts,
    LAG(ts) OVER (PARTITION BY visitor, x12 ORDER BY ts) AS previous_ts,
    LEAD(ts) OVER (PARTITION BY visitor, x12 ORDER BY ts) AS next_ts
  FROM matched
  WHERE x12 IS NOT NULL
),
-- whether the value enters or leaves a window
x12_changes AS (
  SELECT
    visitor,
    ts,
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '2592000 seconds' AS x12_entered_30d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '2592000 seconds' AS x12_left_30d
  FROM x12_neighbours
),
-- each anchor, and the last instant before each of its windows
lookups AS (
  SELECT visitor, ts, ts AS anchor_ts, 1 AS place FROM anchor_times
  UNION ALL
  SELECT visitor, ts - INTERVAL '2592000 seconds, 1 microseconds', ts, 2 FROM anchor_times
  UNION ALL
  SELECT visitor, ts - INTERVAL '604800 seconds, 1 microseconds', ts, 3 FROM anchor_times
  UNION ALL
  SELECT visitor, ts - INTERVAL '3600 seconds, 1 microseconds', ts, 4 FROM anchor_times
),
-- in one stream: what is counted when, and the instants at which totals are looked up
merged_stream AS (
  SELECT
    visitor,
    ts,
    CAST(NULL AS TIMESTAMP_NTZ) AS anchor_ts,
    0 AS place,
    x1 IS NOT NULL AS x1_count,
    x2 IS NOT NULL AS x2_count,
    x4 IS NOT NULL AS x4_count,
    x5 IS NOT NULL AS x5_count,
    x6 IS NOT NULL AS x6_count,
    x7 IS NOT NULL AS x7_count,
    x8 IS NOT NULL AS x8_count,
    x9 IS NOT NULL AS x9_count,
    x10 IS NOT NULL AS x10_count,
    x11 IS NOT NULL AS x11_count,
    x13 IS NOT NULL AS x13_count,
    x14 IS NOT NULL AS x14_count,
    FALSE AS x3_entered_7d,
    FALSE AS x3_left_7d,
    FALSE AS x3_entered_30d,
    FALSE AS x3_left_30d,
    FALSE AS x1_entered_7d,
    FALSE AS x1_left_7d,
    FALSE AS x1_entered_30d,
    FALSE AS x1_left_30d,
    FALSE AS x12_entered_30d,
    FALSE AS x12_left_30d
  FROM matched
  UNION ALL
  SELECT visitor, ts, NULL, 0, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, x3_entered_7d, x3_left_7d, x3_entered_30d, x3_left_30d, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE
  FROM x3_changes
  WHERE x3_entered_7d OR x3_left_7d OR x3_entered_30d OR x3_left_30d
  UNION ALL
  SELECT visitor, ts, NULL, 0, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, x1_entered_7d, x1_left_7d, x1_entered_30d, x1_left_30d, FALSE, FALSE
  FROM x1_changes
  WHERE x1_entered_7d OR x1_left_7d OR x1_entered_30d OR x1_left_30d
  UNION ALL
  SELECT visitor, ts, NULL, 0, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, x12_entered_30d, x12_left_30d
  FROM x12_changes
  WHERE x12_entered_30d OR x12_left_30d
  UNION ALL
  SELECT visitor, ts, anchor_ts, place, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE
  FROM lookups
),
-- the running totals at each anchor, and before its windows
running_totals AS (
  SELECT *
  FROM (
    SELECT
      visitor,
      anchor_ts,
      place,
      COUNT(CASE WHEN x1_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1_count,
      COUNT(CASE WHEN x2_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x2_count,
      COUNT(CASE WHEN x4_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x4_count,
      COUNT(CASE WHEN x5_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x5_count,
      COUNT(CASE WHEN x6_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x6_count,
      COUNT(CASE WHEN x7_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x7_count,
      COUNT(CASE WHEN x8_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x8_count,
      COUNT(CASE WHEN x9_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x9_count,
      COUNT(CASE WHEN x10_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x10_count,
      COUNT(CASE WHEN x11_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x11_count,
      COUNT(CASE WHEN x13_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x13_count,
      COUNT(CASE WHEN x14_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x14_count,
      COUNT(CASE WHEN x3_entered_7d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x3_entered_7d,
      COUNT(CASE WHEN x3_left_7d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x3_left_7d,
      COUNT(CASE WHEN x3_entered_30d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x3_entered_30d,
      COUNT(CASE WHEN x3_left_30d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x3_left_30d,
      COUNT(CASE WHEN x1_entered_7d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1_entered_7d,
      COUNT(CASE WHEN x1_left_7d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1_left_7d,
      COUNT(CASE WHEN x1_entered_30d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1_entered_30d,
      COUNT(CASE WHEN x1_left_30d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1_left_30d,
      COUNT(CASE WHEN x12_entered_30d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x12_entered_30d,
      COUNT(CASE WHEN x12_left_30d THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x12_left_30d
    FROM merged_stream
  ) AS totals_per_row
  WHERE place > 0
),
-- the events that have x1, numbered as the running total x1_count counts them
x1_numbered AS (
  SELECT visitor, ts, x1 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x1) AS number
  FROM matched
  WHERE x1 IS NOT NULL
),
-- the events that have x2, numbered as the running total x2_count counts them
x2_numbered AS (
  SELECT visitor, ts, x2 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x2) AS number
  FROM matched
  WHERE x2 IS NOT NULL
),
-- the events that have x10, numbered as the running total x10_count counts them
x10_numbered AS (
  SELECT visitor, ts, x10 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x10) AS number
  FROM matched
  WHERE x10 IS NOT NULL
),
-- the events that have x11, numbered as the running total x11_count counts them
x11_numbered AS (
  SELECT visitor, ts, x11 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x11) AS number
  FROM matched
  WHERE x11 IS NOT NULL
),
-- the events that have x13, numbered as the running total x13_count counts them
x13_numbered AS (
  SELECT visitor, ts, x13 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x13) AS number
  FROM matched
  WHERE x13 IS NOT NULL
),
-- the totals at each anchor, less the totals before each window
window_counts AS (
  SELECT
    visitor,
    anchor_ts AS ts,
    CASE WHEN MAX(CASE WHEN place = 1 THEN x1_count END) > MAX(CASE WHEN place = 2 THEN x1_count END) THEN MAX(CASE WHEN place = 1 THEN x1_count END) END AS "LATEST_APP_ID EVENT NUMBER",
    CASE WHEN MAX(CASE WHEN place = 1 THEN x2_count END) > MAX(CASE WHEN place = 2 THEN x2_count END) THEN MAX(CASE WHEN place = 1 THEN x2_count END) END AS "LATEST_DEVICE_CLASS EVENT NUMBER",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x3_entered_7d END) - MAX(CASE WHEN place = 3 THEN x3_left_7d END) AS BIGINT), 0) AS "NUM_SESSIONS_L7D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x3_entered_30d END) - MAX(CASE WHEN place = 2 THEN x3_left_30d END) AS BIGINT), 0) AS "NUM_SESSIONS_L30D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x1_entered_7d END) - MAX(CASE WHEN place = 3 THEN x1_left_7d END) AS BIGINT), 0) AS "NUM_APPS_L7D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x1_entered_30d END) - MAX(CASE WHEN place = 2 THEN x1_left_30d END) AS BIGINT), 0) AS "NUM_APPS_L30D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x4_count END) - MAX(CASE WHEN place = 3 THEN x4_count END) AS BIGINT), 0) AS "NUM_PAGE_VIEWS_L7D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x4_count END) - MAX(CASE WHEN place = 2 THEN x4_count END) AS BIGINT), 0) AS "NUM_PAGE_VIEWS_L30D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x5_count END) - MAX(CASE WHEN place = 3 THEN x5_count END) AS BIGINT), 0) AS "NUM_PAGE_PINGS_L7D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x5_count END) - MAX(CASE WHEN place = 2 THEN x5_count END) AS BIGINT), 0) AS "NUM_PAGE_PINGS_L30D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x6_count END) - MAX(CASE WHEN place = 3 THEN x6_count END) AS BIGINT), 0) AS "NUM_PRICING_VIEWS_L7D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x6_count END) - MAX(CASE WHEN place = 2 THEN x6_count END) AS BIGINT), 0) AS "NUM_PRICING_VIEWS_L30D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x7_count END) - MAX(CASE WHEN place = 3 THEN x7_count END) AS BIGINT), 0) AS "NUM_CONVERSIONS_L7D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x7_count END) - MAX(CASE WHEN place = 2 THEN x7_count END) AS BIGINT), 0) AS "NUM_CONVERSIONS_L30D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x8_count END) - MAX(CASE WHEN place = 3 THEN x8_count END) AS BIGINT), 0) AS "NUM_FORM_ENGAGEMENTS_L7D VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x9_count END) - MAX(CASE WHEN place = 2 THEN x9_count END) AS BIGINT), 0) AS "NUM_MEDIA_EVENTS_L30D VALUE",
    CASE WHEN MAX(CASE WHEN place = 1 THEN x10_count END) > MAX(CASE WHEN place = 2 THEN x10_count END) THEN MAX(CASE WHEN place = 2 THEN x10_count END) + 1 END AS "FIRST_REFR_MEDIUM_L30D EVENT NUMBER",
    CASE WHEN MAX(CASE WHEN place = 1 THEN x11_count END) > MAX(CASE WHEN place = 2 THEN x11_count END) THEN MAX(CASE WHEN place = 2 THEN x11_count END) + 1 END AS "FIRST_MKT_MEDIUM_L30D EVENT NUMBER",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x12_entered_30d END) - MAX(CASE WHEN place = 2 THEN x12_left_30d END) AS BIGINT), 0) AS "NUM_ENGAGED_CAMPAIGNS_L30D VALUE",
    CASE WHEN MAX(CASE WHEN place = 1 THEN x13_count END) > MAX(CASE WHEN place = 2 THEN x13_count END) THEN MAX(CASE WHEN place = 1 THEN x13_count END) END AS "LAST_PAGE_PATH EVENT NUMBER",
    CASE WHEN MAX(CASE WHEN place = 1 THEN x13_count END) > MAX(CASE WHEN place = 4 THEN x13_count END) THEN MAX(CASE WHEN place = 4 THEN x13_count END) + 1 END AS "FIRST_PAGE_PATH_L1H EVENT NUMBER",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x4_count END) - MAX(CASE WHEN place = 4 THEN x4_count END) AS BIGINT), 0) AS "NUM_PAGE_VIEWS_L1H VALUE",
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x14_count END) - MAX(CASE WHEN place = 4 THEN x14_count END) AS BIGINT), 0) AS "NUM_KEY_PAGE_VIEWS_L1H VALUE"
  FROM running_totals
  GROUP BY visitor, anchor_ts
)
-- each anchor with its values
SELECT
  a.*,
  "LATEST_APP_ID EVENT".value AS "LATEST_APP_ID",
  "LATEST_DEVICE_CLASS EVENT".value AS "LATEST_DEVICE_CLASS",
  CASE WHEN c."NUM_SESSIONS_L7D VALUE" > 100 THEN 100 ELSE c."NUM_SESSIONS_L7D VALUE" END AS "NUM_SESSIONS_L7D",
  CASE WHEN c."NUM_SESSIONS_L30D VALUE" > 100 THEN 100 ELSE c."NUM_SESSIONS_L30D VALUE" END AS "NUM_SESSIONS_L30D",
  CASE WHEN c."NUM_APPS_L7D VALUE" > 100 THEN 100 ELSE c."NUM_APPS_L7D VALUE" END AS "NUM_APPS_L7D",
  CASE WHEN c."NUM_APPS_L30D VALUE" > 100 THEN 100 ELSE c."NUM_APPS_L30D VALUE" END AS "NUM_APPS_L30D",
  c."NUM_PAGE_VIEWS_L7D VALUE" AS "NUM_PAGE_VIEWS_L7D",
  c."NUM_PAGE_VIEWS_L30D VALUE" AS "NUM_PAGE_VIEWS_L30D",
  c."NUM_PAGE_PINGS_L7D VALUE" AS "NUM_PAGE_PINGS_L7D",
  c."NUM_PAGE_PINGS_L30D VALUE" AS "NUM_PAGE_PINGS_L30D",
  c."NUM_PRICING_VIEWS_L7D VALUE" AS "NUM_PRICING_VIEWS_L7D",
  c."NUM_PRICING_VIEWS_L30D VALUE" AS "NUM_PRICING_VIEWS_L30D",
  COALESCE(c."NUM_CONVERSIONS_L7D VALUE" <> 0, FALSE) AS "HAD_CONVERSIONS_L7D",
  COALESCE(c."NUM_CONVERSIONS_L30D VALUE" <> 0, FALSE) AS "HAD_CONVERSIONS_L30D",
  c."NUM_FORM_ENGAGEMENTS_L7D VALUE" AS "NUM_FORM_ENGAGEMENTS_L7D",
  c."NUM_MEDIA_EVENTS_L30D VALUE" AS "NUM_MEDIA_EVENTS_L30D",
  "FIRST_REFR_MEDIUM_L30D EVENT".value AS "FIRST_REFR_MEDIUM_L30D",
  "FIRST_MKT_MEDIUM_L30D EVENT".value AS "FIRST_MKT_MEDIUM_L30D",
  CASE WHEN c."NUM_ENGAGED_CAMPAIGNS_L30D VALUE" > 100 THEN 100 ELSE c."NUM_ENGAGED_CAMPAIGNS_L30D VALUE" END AS "NUM_ENGAGED_CAMPAIGNS_L30D",
  "LAST_PAGE_PATH EVENT".value AS "LAST_PAGE_PATH",
  "FIRST_PAGE_PATH_L1H EVENT".value AS "FIRST_PAGE_PATH_L1H",
  c."NUM_PAGE_VIEWS_L1H VALUE" AS "NUM_PAGE_VIEWS_L1H",
  c."NUM_KEY_PAGE_VIEWS_L1H VALUE" AS "NUM_KEY_PAGE_VIEWS_L1H",
  CAST(CAST(DATE_PART('dayofweekiso', a."ANCHOR_TS") AS VARCHAR) AS INTEGER) AS "DAY_OF_WEEK"
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."DOMAIN_USERID"
LEFT JOIN window_counts AS c
  ON c.visitor = v.visitor AND c.ts = a."ANCHOR_TS"
LEFT JOIN x1_numbered AS "LATEST_APP_ID EVENT"
  ON "LATEST_APP_ID EVENT".visitor = c.visitor AND "LATEST_APP_ID EVENT".number = c."LATEST_APP_ID EVENT NUMBER"
LEFT JOIN x2_numbered AS "LATEST_DEVICE_CLASS EVENT"
  ON "LATEST_DEVICE_CLASS EVENT".visitor = c.visitor AND "LATEST_DEVICE_CLASS EVENT".number = c."LATEST_DEVICE_CLASS EVENT NUMBER"
LEFT JOIN x10_numbered AS "FIRST_REFR_MEDIUM_L30D EVENT"
  ON "FIRST_REFR_MEDIUM_L30D EVENT".visitor = c.visitor AND "FIRST_REFR_MEDIUM_L30D EVENT".number = c."FIRST_REFR_MEDIUM_L30D EVENT NUMBER"
LEFT JOIN x11_numbered AS "FIRST_MKT_MEDIUM_L30D EVENT"
  ON "FIRST_MKT_MEDIUM_L30D EVENT".visitor = c.visitor AND "FIRST_MKT_MEDIUM_L30D EVENT".number = c."FIRST_MKT_MEDIUM_L30D EVENT NUMBER"
LEFT JOIN x13_numbered AS "LAST_PAGE_PATH EVENT"
  ON "LAST_PAGE_PATH EVENT".visitor = c.visitor AND "LAST_PAGE_PATH EVENT".number = c."LAST_PAGE_PATH EVENT NUMBER"
LEFT JOIN x13_numbered AS "FIRST_PAGE_PATH_L1H EVENT"
  ON "FIRST_PAGE_PATH_L1H EVENT".visitor = c.visitor AND "FIRST_PAGE_PATH_L1H EVENT".number = c."FIRST_PAGE_PATH_L1H EVENT NUMBER"
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
