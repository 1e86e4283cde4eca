WITH
-- the anchors, with the visitor as text and the instant in UTC
anchor_rows AS (
  SELECT CAST(a.`domain_userid` AS STRING) AS `domain_userid`, CASE TYPEOF(a.`anchor_ts`) WHEN 'timestamp_ntz' THEN CAST(a.`anchor_ts` AS TIMESTAMP_NTZ) WHEN 'timestamp' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(a.`anchor_ts` AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CASE WHEN CAST(a.`anchor_ts` AS STRING) RLIKE '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(CAST(a.`anchor_ts` AS STRING) AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CAST(CAST(a.`anchor_ts` AS STRING) AS TIMESTAMP_NTZ) END END AS `anchor_ts`, a.* EXCEPT (`domain_userid`, `anchor_ts`)
  FROM anchors AS a
  WHERE RAND() >= 0 DISTRIBUTE BY `domain_userid`
),
-- the visitors of the anchors
visitors AS (
  SELECT visitor_key, visitor_key AS visitor
  FROM (
    SELECT DISTINCT a.`domain_userid` AS visitor_key
    FROM anchor_rows AS a
    WHERE a.`domain_userid` NOT IN ('', '00000000-0000-0000-0000-000000000000')
  ) AS distinct_keys
),
-- the instants of each visitor's anchors
anchor_times AS (
  SELECT DISTINCT v.visitor, a.`anchor_ts` AS ts
  FROM anchor_rows AS a
  JOIN visitors AS v ON v.visitor_key = a.`domain_userid`
),
-- the value that each event has for the attributes named above it, NULL if it does not count
matched AS (
  SELECT
    v.visitor,
    CASE TYPEOF(e.`derived_tstamp`) WHEN 'timestamp_ntz' THEN CAST(e.`derived_tstamp` AS TIMESTAMP_NTZ) WHEN 'timestamp' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(e.`derived_tstamp` AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CASE WHEN CAST(e.`derived_tstamp` AS STRING) RLIKE '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$' THEN TIMESTAMP_NTZ '1970-01-01' + UNIX_MICROS(CAST(CAST(e.`derived_tstamp` AS STRING) AS TIMESTAMP)) * INTERVAL '0.000001' SECOND ELSE CAST(CAST(e.`derived_tstamp` AS STRING) AS TIMESTAMP_NTZ) END END AS ts,
    -- latest_app_id, num_apps_l7d, num_apps_l30d
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN CAST(`app_id` AS STRING) END AS x1,
    -- latest_device_class
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN CASE WHEN TYPEOF(GET(`contexts_nl_basjes_yauaa_context_1`, 0).`device_class`) RLIKE '^(float|double|decimal.*[1-9][)]$|struct|array|map)' THEN GET(TRANSFORM(ARRAY(CAST(TRY_CAST(CAST(GET(`contexts_nl_basjes_yauaa_context_1`, 0).`device_class` AS STRING) AS DOUBLE) + 0.0 AS STRING)), n -> CASE
    WHEN NOT n RLIKE 'E' THEN REGEXP_REPLACE(n, '[.]0$', '')
    WHEN n RLIKE 'E([1-9]|1[0-5]|-4)$' THEN TRIM(TRAILING '.' FROM
      TRIM(TRAILING '0' FROM CAST(CAST(n AS DECIMAL(38, 21)) AS STRING)))
    ELSE REGEXP_REPLACE(REGEXP_REPLACE(REGEXP_REPLACE(
      IF(n RLIKE '[0-9]{16}E'
        AND TRY_CAST(FORMAT_STRING('%.15e', TRY_CAST(n AS DOUBLE)) AS DOUBLE) = n,
        FORMAT_STRING('%.15e', TRY_CAST(n AS DOUBLE)), n),
      '[.]?0*[Ee][+]?', 'e'), 'e([0-9])', 'e+$1'), 'e-([0-9])$', 'e-0$1') END), 0) ELSE CAST(GET(`contexts_nl_basjes_yauaa_context_1`, 0).`device_class` AS STRING) END END AS x2,
    -- num_sessions_l7d, num_sessions_l30d
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN CAST(`domain_sessionid` AS STRING) END AS x3,
    -- num_page_views_l7d, num_page_views_l30d, num_page_views_l1h
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN TRUE END AS x4,
    -- num_page_pings_l7d, num_page_pings_l30d
    CASE WHEN `event_name` = 'page_ping' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN TRUE END AS x5,
    -- num_pricing_views_l7d, num_pricing_views_l30d
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' AND CAST(`page_url` AS STRING) LIKE '%pricing%' THEN TRUE END AS x6,
    -- num_conversions_l7d, num_conversions_l30d
    CASE WHEN `event_name` = 'submit_form' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN TRUE END AS x7,
    -- num_form_engagements_l7d
    CASE WHEN ((`event_name` = 'focus_form' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0') OR (`event_name` = 'change_form' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0')) THEN TRUE END AS x8,
    -- num_media_events_l30d
    CASE WHEN `event_vendor` = 'com.snowplowanalytics.snowplow.media' THEN TRUE END AS x9,
    -- first_refr_medium_l30d
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN CAST(`refr_medium` AS STRING) END AS x10,
    -- first_mkt_medium_l30d
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN CAST(`mkt_medium` AS STRING) END AS x11,
    -- num_engaged_campaigns_l30d
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN CAST(`mkt_campaign` AS STRING) END AS x12,
    -- last_page_path, first_page_path_l1h
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN CAST(`page_urlpath` AS STRING) END AS x13,
    -- num_key_page_views_l1h
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' AND (CAST(`page_urlpath` AS STRING) = '/pricing' OR CAST(`page_urlpath` AS STRING) = '/customers' OR CAST(`page_urlpath` AS STRING) = '/videos' OR CAST(`page_urlpath` AS STRING) = '/demo') THEN TRUE END AS x14
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = CAST(e.`domain_userid` AS STRING)
  WHERE RAND() >= 0 DISTRIBUTE BY visitor
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
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '604800' SECOND AS x3_entered_7d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '604800' SECOND AS x3_left_7d,
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '2592000' SECOND AS x3_entered_30d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '2592000' SECOND AS x3_left_30d
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
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '604800' SECOND AS x1_entered_7d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '604800' SECOND AS x1_left_7d,
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '2592000' SECOND AS x1_entered_30d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '2592000' SECOND AS x1_left_30d
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
    previous_ts IS NULL OR ts > previous_ts + INTERVAL '2592000' SECOND AS x12_entered_30d,
    next_ts IS NULL OR next_ts > ts + INTERVAL '2592000' SECOND AS x12_left_30d
  FROM x12_neighbours
),
-- each anchor, and the last instant before each of its windows
lookups AS (
  SELECT visitor, ts, ts AS anchor_ts, 1 AS place FROM anchor_times
  UNION ALL
  SELECT visitor, ts - INTERVAL '2592000.000001' SECOND, ts, 2 FROM anchor_times
  UNION ALL
  SELECT visitor, ts - INTERVAL '604800.000001' SECOND, ts, 3 FROM anchor_times
  UNION ALL
  SELECT visitor, ts - INTERVAL '3600.000001' SECOND, ts, 4 FROM anchor_times
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
    CASE WHEN MAX(CASE WHEN place = 1 THEN x1_count END) > MAX(CASE WHEN place = 2 THEN x1_count END) THEN MAX(CASE WHEN place = 1 THEN x1_count END) END AS `latest_app_id event number`,
    CASE WHEN MAX(CASE WHEN place = 1 THEN x2_count END) > MAX(CASE WHEN place = 2 THEN x2_count END) THEN MAX(CASE WHEN place = 1 THEN x2_count END) END AS `latest_device_class event number`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x3_entered_7d END) - MAX(CASE WHEN place = 3 THEN x3_left_7d END) AS BIGINT), 0) AS `num_sessions_l7d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x3_entered_30d END) - MAX(CASE WHEN place = 2 THEN x3_left_30d END) AS BIGINT), 0) AS `num_sessions_l30d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x1_entered_7d END) - MAX(CASE WHEN place = 3 THEN x1_left_7d END) AS BIGINT), 0) AS `num_apps_l7d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x1_entered_30d END) - MAX(CASE WHEN place = 2 THEN x1_left_30d END) AS BIGINT), 0) AS `num_apps_l30d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x4_count END) - MAX(CASE WHEN place = 3 THEN x4_count END) AS BIGINT), 0) AS `num_page_views_l7d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x4_count END) - MAX(CASE WHEN place = 2 THEN x4_count END) AS BIGINT), 0) AS `num_page_views_l30d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x5_count END) - MAX(CASE WHEN place = 3 THEN x5_count END) AS BIGINT), 0) AS `num_page_pings_l7d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x5_count END) - MAX(CASE WHEN place = 2 THEN x5_count END) AS BIGINT), 0) AS `num_page_pings_l30d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x6_count END) - MAX(CASE WHEN place = 3 THEN x6_count END) AS BIGINT), 0) AS `num_pricing_views_l7d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x6_count END) - MAX(CASE WHEN place = 2 THEN x6_count END) AS BIGINT), 0) AS `num_pricing_views_l30d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x7_count END) - MAX(CASE WHEN place = 3 THEN x7_count END) AS BIGINT), 0) AS `num_conversions_l7d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x7_count END) - MAX(CASE WHEN place = 2 THEN x7_count END) AS BIGINT), 0) AS `num_conversions_l30d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x8_count END) - MAX(CASE WHEN place = 3 THEN x8_count END) AS BIGINT), 0) AS `num_form_engagements_l7d value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x9_count END) - MAX(CASE WHEN place = 2 THEN x9_count END) AS BIGINT), 0) AS `num_media_events_l30d value`,
    CASE WHEN MAX(CASE WHEN place = 1 THEN x10_count END) > MAX(CASE WHEN place = 2 THEN x10_count END) THEN MAX(CASE WHEN place = 2 THEN x10_count END) + 1 END AS `first_refr_medium_l30d event number`,
    CASE WHEN MAX(CASE WHEN place = 1 THEN x11_count END) > MAX(CASE WHEN place = 2 THEN x11_count END) THEN MAX(CASE WHEN place = 2 THEN x11_count END) + 1 END AS `first_mkt_medium_l30d event number`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x12_entered_30d END) - MAX(CASE WHEN place = 2 THEN x12_left_30d END) AS BIGINT), 0) AS `num_engaged_campaigns_l30d value`,
    CASE WHEN MAX(CASE WHEN place = 1 THEN x13_count END) > MAX(CASE WHEN place = 2 THEN x13_count END) THEN MAX(CASE WHEN place = 1 THEN x13_count END) END AS `last_page_path event number`,
    CASE WHEN MAX(CASE WHEN place = 1 THEN x13_count END) > MAX(CASE WHEN place = 4 THEN x13_count END) THEN MAX(CASE WHEN place = 4 THEN x13_count END) + 1 END AS `first_page_path_l1h event number`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x4_count END) - MAX(CASE WHEN place = 4 THEN x4_count END) AS BIGINT), 0) AS `num_page_views_l1h value`,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x14_count END) - MAX(CASE WHEN place = 4 THEN x14_count END) AS BIGINT), 0) AS `num_key_page_views_l1h value`
  FROM running_totals
  GROUP BY visitor, anchor_ts
)
-- each anchor with its values
SELECT
  a.*,
  `latest_app_id event`.value AS `latest_app_id`,
  `latest_device_class event`.value AS `latest_device_class`,
  CASE WHEN c.`num_sessions_l7d value` > 100 THEN 100 ELSE c.`num_sessions_l7d value` END AS `num_sessions_l7d`,
  CASE WHEN c.`num_sessions_l30d value` > 100 THEN 100 ELSE c.`num_sessions_l30d value` END AS `num_sessions_l30d`,
  CASE WHEN c.`num_apps_l7d value` > 100 THEN 100 ELSE c.`num_apps_l7d value` END AS `num_apps_l7d`,
  CASE WHEN c.`num_apps_l30d value` > 100 THEN 100 ELSE c.`num_apps_l30d value` END AS `num_apps_l30d`,
  c.`num_page_views_l7d value` AS `num_page_views_l7d`,
  c.`num_page_views_l30d value` AS `num_page_views_l30d`,
  c.`num_page_pings_l7d value` AS `num_page_pings_l7d`,
  c.`num_page_pings_l30d value` AS `num_page_pings_l30d`,
  c.`num_pricing_views_l7d value` AS `num_pricing_views_l7d`,
  c.`num_pricing_views_l30d value` AS `num_pricing_views_l30d`,
  COALESCE(c.`num_conversions_l7d value` <> 0, FALSE) AS `had_conversions_l7d`,
  COALESCE(c.`num_conversions_l30d value` <> 0, FALSE) AS `had_conversions_l30d`,
  c.`num_form_engagements_l7d value` AS `num_form_engagements_l7d`,
  c.`num_media_events_l30d value` AS `num_media_events_l30d`,
  `first_refr_medium_l30d event`.value AS `first_refr_medium_l30d`,
  `first_mkt_medium_l30d event`.value AS `first_mkt_medium_l30d`,
  CASE WHEN c.`num_engaged_campaigns_l30d value` > 100 THEN 100 ELSE c.`num_engaged_campaigns_l30d value` END AS `num_engaged_campaigns_l30d`,
  `last_page_path event`.value AS `last_page_path`,
  `first_page_path_l1h event`.value AS `first_page_path_l1h`,
  c.`num_page_views_l1h value` AS `num_page_views_l1h`,
  c.`num_key_page_views_l1h value` AS `num_key_page_views_l1h`,
  CAST(CAST(DATE_PART('dayofweek_iso', a.`anchor_ts`) AS STRING) AS INTEGER) AS `day_of_week`
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a.`domain_userid`
LEFT JOIN window_counts AS c
  ON c.visitor = v.visitor AND c.ts = a.`anchor_ts`
LEFT JOIN x1_numbered AS `latest_app_id event`
  ON `latest_app_id event`.visitor = c.visitor AND `latest_app_id event`.number = c.`latest_app_id event number`
LEFT JOIN x2_numbered AS `latest_device_class event`
  ON `latest_device_class event`.visitor = c.visitor AND `latest_device_class event`.number = c.`latest_device_class event number`
LEFT JOIN x10_numbered AS `first_refr_medium_l30d event`
  ON `first_refr_medium_l30d event`.visitor = c.visitor AND `first_refr_medium_l30d event`.number = c.`first_refr_medium_l30d event number`
LEFT JOIN x11_numbered AS `first_mkt_medium_l30d event`
  ON `first_mkt_medium_l30d event`.visitor = c.visitor AND `first_mkt_medium_l30d event`.number = c.`first_mkt_medium_l30d event number`
LEFT JOIN x13_numbered AS `last_page_path event`
  ON `last_page_path event`.visitor = c.visitor AND `last_page_path event`.number = c.`last_page_path event number`
LEFT JOIN x13_numbered AS `first_page_path_l1h event`
  ON `first_page_path_l1h event`.visitor = c.visitor AND `first_page_path_l1h event`.number = c.`first_page_path_l1h event number`
ORDER BY a.`domain_userid`, a.`anchor_ts`
