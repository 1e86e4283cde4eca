WITH
-- the anchors, with the visitor as text and the instant in UTC
anchor_rows AS (
  SELECT a.* REPLACE (CAST(a."domain_userid" AS VARCHAR) AS "domain_userid", CASE TYPEOF(a."anchor_ts") WHEN 'TIMESTAMP' THEN CAST(a."anchor_ts" AS TIMESTAMP) WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST(a."anchor_ts" AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CASE WHEN REGEXP_MATCHES(CAST(a."anchor_ts" AS VARCHAR), '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CAST(CAST(a."anchor_ts" AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CAST(CAST(a."anchor_ts" AS VARCHAR) AS TIMESTAMP) END END AS "anchor_ts")
  FROM anchors AS a
),
-- the visitors of the anchors
visitors AS MATERIALIZED (
  SELECT visitor_key, CAST(ROW_NUMBER() OVER (ORDER BY visitor_key) AS INTEGER) AS visitor
  FROM (
    SELECT DISTINCT a."domain_userid" AS visitor_key
    FROM anchor_rows AS a
    WHERE a."domain_userid" NOT IN ('', '00000000-0000-0000-0000-000000000000')
  ) AS distinct_keys
),
-- the instants of each visitor's anchors
anchor_times AS MATERIALIZED (
  SELECT DISTINCT v.visitor, a."anchor_ts" AS ts
  FROM anchor_rows AS a
  JOIN visitors AS v ON v.visitor_key = a."domain_userid"
),
-- the value that each event has for the attributes named above it, NULL if it does not count
matched AS MATERIALIZED (
  SELECT
    v.visitor,
    CASE TYPEOF(e."derived_tstamp") WHEN 'TIMESTAMP' THEN CAST(e."derived_tstamp" AS TIMESTAMP) WHEN 'TIMESTAMP WITH TIME ZONE' THEN CAST(e."derived_tstamp" AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CASE WHEN REGEXP_MATCHES(CAST(e."derived_tstamp" AS VARCHAR), '[0-9]:[0-9]{2}.*(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$') THEN CAST(CAST(e."derived_tstamp" AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC' ELSE CAST(CAST(e."derived_tstamp" AS VARCHAR) AS TIMESTAMP) END END AS ts,
    -- latest_app_id, num_apps_l7d, num_apps_l30d
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("app_id" AS VARCHAR) END AS x1,
    -- latest_device_class
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN COALESCE(CASE WHEN CONTAINS('-0123456789[{', LEFT((CAST("contexts_nl_basjes_yauaa_context_1" AS JSON) ->> '$[0]."deviceClass"'), 1)) AND JSON_TYPE(CAST("contexts_nl_basjes_yauaa_context_1" AS JSON), '$[0]."deviceClass"') IN ('DOUBLE', 'OBJECT', 'ARRAY') THEN REGEXP_REPLACE(CAST(TRY_CAST((CAST("contexts_nl_basjes_yauaa_context_1" AS JSON) ->> '$[0]."deviceClass"') AS DOUBLE) + 0.0 AS VARCHAR), '[.]0$', '') ELSE (CAST("contexts_nl_basjes_yauaa_context_1" AS JSON) ->> '$[0]."deviceClass"') END, CASE WHEN CONTAINS('-0123456789[{', LEFT((CAST("contexts_nl_basjes_yauaa_context_1" AS JSON) ->> '$[0]."device_class"'), 1)) AND JSON_TYPE(CAST("contexts_nl_basjes_yauaa_context_1" AS JSON), '$[0]."device_class"') IN ('DOUBLE', 'OBJECT', 'ARRAY') THEN REGEXP_REPLACE(CAST(TRY_CAST((CAST("contexts_nl_basjes_yauaa_context_1" AS JSON) ->> '$[0]."device_class"') AS DOUBLE) + 0.0 AS VARCHAR), '[.]0$', '') ELSE (CAST("contexts_nl_basjes_yauaa_context_1" AS JSON) ->> '$[0]."device_class"') END) END AS x2,
    -- num_sessions_l7d, num_sessions_l30d
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("domain_sessionid" AS VARCHAR) END AS x3,
    -- num_page_views_l7d, num_page_views_l30d, num_page_views_l1h
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN TRUE END AS x4,
    -- num_page_pings_l7d, num_page_pings_l30d
    CASE WHEN "event_name" = 'page_ping' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN TRUE END AS x5,
    -- num_pricing_views_l7d, num_pricing_views_l30d
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' AND CAST("page_url" AS VARCHAR) LIKE '%pricing%' THEN TRUE END AS x6,
    -- num_conversions_l7d, num_conversions_l30d
    CASE WHEN "event_name" = 'submit_form' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN TRUE END AS x7,
    -- num_form_engagements_l7d
    CASE WHEN (("event_name" = 'focus_form' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0') OR ("event_name" = 'change_form' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0')) THEN TRUE END AS x8,
    -- num_media_events_l30d
    CASE WHEN "event_vendor" = 'com.snowplowanalytics.snowplow.media' THEN TRUE END AS x9,
    -- first_refr_medium_l30d
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("refr_medium" AS VARCHAR) END AS x10,
    -- first_mkt_medium_l30d
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("mkt_medium" AS VARCHAR) END AS x11,
    -- num_engaged_campaigns_l30d
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("mkt_campaign" AS VARCHAR) END AS x12,
    -- last_page_path, first_page_path_l1h
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN CAST("page_urlpath" AS VARCHAR) END AS x13,
    -- num_key_page_views_l1h
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' AND (CAST("page_urlpath" AS VARCHAR) = '/pricing' OR CAST("page_urlpath" AS VARCHAR) = '/customers' OR CAST("page_urlpath" AS VARCHAR) = '/videos' OR CAST("page_urlpath" AS VARCHAR) = '/demo') THEN TRUE END AS x14
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = CAST(e."domain_userid" AS VARCHAR)
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
  SELECT visitor, ts - INTERVAL '2592000000001 microseconds', ts, 2 FROM anchor_times
  UNION ALL
  SELECT visitor, ts - INTERVAL '604800000001 microseconds', ts, 3 FROM anchor_times
  UNION ALL
  SELECT visitor, ts - INTERVAL '3600000001 microseconds', ts, 4 FROM anchor_times
),
-- in one stream: what is counted when, and the instants at which totals are looked up
merged_stream AS (
  SELECT
    visitor,
    ts,
    CAST(NULL AS TIMESTAMP) AS anchor_ts,
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
-- (they run on from one visitor to the next, because DuckDB counts fastest in one sorted pass;
-- only differences between two totals of one visitor are used)
running_totals AS MATERIALIZED (
  SELECT *
  FROM (
    SELECT
      visitor,
      anchor_ts,
      place,
      CAST(COUNT(*) FILTER (WHERE x1_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_count,
      CAST(COUNT(*) FILTER (WHERE x2_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x2_count,
      CAST(COUNT(*) FILTER (WHERE x4_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x4_count,
      CAST(COUNT(*) FILTER (WHERE x5_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x5_count,
      CAST(COUNT(*) FILTER (WHERE x6_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x6_count,
      CAST(COUNT(*) FILTER (WHERE x7_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x7_count,
      CAST(COUNT(*) FILTER (WHERE x8_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x8_count,
      CAST(COUNT(*) FILTER (WHERE x9_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x9_count,
      CAST(COUNT(*) FILTER (WHERE x10_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x10_count,
      CAST(COUNT(*) FILTER (WHERE x11_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x11_count,
      CAST(COUNT(*) FILTER (WHERE x13_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x13_count,
      CAST(COUNT(*) FILTER (WHERE x14_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x14_count,
      CAST(COUNT(*) FILTER (WHERE x3_entered_7d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x3_entered_7d,
      CAST(COUNT(*) FILTER (WHERE x3_left_7d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x3_left_7d,
      CAST(COUNT(*) FILTER (WHERE x3_entered_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x3_entered_30d,
      CAST(COUNT(*) FILTER (WHERE x3_left_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x3_left_30d,
      CAST(COUNT(*) FILTER (WHERE x1_entered_7d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_entered_7d,
      CAST(COUNT(*) FILTER (WHERE x1_left_7d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_left_7d,
      CAST(COUNT(*) FILTER (WHERE x1_entered_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_entered_30d,
      CAST(COUNT(*) FILTER (WHERE x1_left_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_left_30d,
      CAST(COUNT(*) FILTER (WHERE x12_entered_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x12_entered_30d,
      CAST(COUNT(*) FILTER (WHERE x12_left_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x12_left_30d
    FROM (SELECT * FROM merged_stream ORDER BY visitor, ts, place)
  ) AS totals_per_row
  WHERE place > 0
),
-- the events that have x1, numbered as the running total x1_count counts them
x1_numbered AS (
  SELECT visitor, ts, x1 AS value, ROW_NUMBER() OVER (ORDER BY visitor, ts, x1) AS number
  FROM matched
  WHERE x1 IS NOT NULL
),
-- the events that have x2, numbered as the running total x2_count counts them
x2_numbered AS (
  SELECT visitor, ts, x2 AS value, ROW_NUMBER() OVER (ORDER BY visitor, ts, x2) AS number
  FROM matched
  WHERE x2 IS NOT NULL
),
-- the events that have x10, numbered as the running total x10_count counts them
x10_numbered AS (
  SELECT visitor, ts, x10 AS value, ROW_NUMBER() OVER (ORDER BY visitor, ts, x10) AS number
  FROM matched
  WHERE x10 IS NOT NULL
),
-- the events that have x11, numbered as the running total x11_count counts them
x11_numbered AS (
  SELECT visitor, ts, x11 AS value, ROW_NUMBER() OVER (ORDER BY visitor, ts, x11) AS number
  FROM matched
  WHERE x11 IS NOT NULL
),
-- the events that have x13, numbered as the running total x13_count counts them
x13_numbered AS (
  SELECT visitor, ts, x13 AS value, ROW_NUMBER() OVER (ORDER BY visitor, ts, x13) AS number
  FROM matched
  WHERE x13 IS NOT NULL
),
-- the totals at each anchor, less the totals before each window
window_counts AS (
  SELECT
    now.visitor,
    now.anchor_ts AS ts,
    CASE WHEN now.x1_count > before_30d.x1_count THEN now.x1_count END AS "latest_app_id event number",
    CASE WHEN now.x2_count > before_30d.x2_count THEN now.x2_count END AS "latest_device_class event number",
    NULLIF(CAST(now.x3_entered_7d - before_7d.x3_left_7d AS BIGINT), 0) AS "num_sessions_l7d value",
    NULLIF(CAST(now.x3_entered_30d - before_30d.x3_left_30d AS BIGINT), 0) AS "num_sessions_l30d value",
    NULLIF(CAST(now.x1_entered_7d - before_7d.x1_left_7d AS BIGINT), 0) AS "num_apps_l7d value",
    NULLIF(CAST(now.x1_entered_30d - before_30d.x1_left_30d AS BIGINT), 0) AS "num_apps_l30d value",
    NULLIF(CAST(now.x4_count - before_7d.x4_count AS BIGINT), 0) AS "num_page_views_l7d value",
    NULLIF(CAST(now.x4_count - before_30d.x4_count AS BIGINT), 0) AS "num_page_views_l30d value",
    NULLIF(CAST(now.x5_count - before_7d.x5_count AS BIGINT), 0) AS "num_page_pings_l7d value",
    NULLIF(CAST(now.x5_count - before_30d.x5_count AS BIGINT), 0) AS "num_page_pings_l30d value",
    NULLIF(CAST(now.x6_count - before_7d.x6_count AS BIGINT), 0) AS "num_pricing_views_l7d value",
    NULLIF(CAST(now.x6_count - before_30d.x6_count AS BIGINT), 0) AS "num_pricing_views_l30d value",
    NULLIF(CAST(now.x7_count - before_7d.x7_count AS BIGINT), 0) AS "num_conversions_l7d value",
    NULLIF(CAST(now.x7_count - before_30d.x7_count AS BIGINT), 0) AS "num_conversions_l30d value",
    NULLIF(CAST(now.x8_count - before_7d.x8_count AS BIGINT), 0) AS "num_form_engagements_l7d value",
    NULLIF(CAST(now.x9_count - before_30d.x9_count AS BIGINT), 0) AS "num_media_events_l30d value",
    CASE WHEN now.x10_count > before_30d.x10_count THEN before_30d.x10_count + 1 END AS "first_refr_medium_l30d event number",
    CASE WHEN now.x11_count > before_30d.x11_count THEN before_30d.x11_count + 1 END AS "first_mkt_medium_l30d event number",
    NULLIF(CAST(now.x12_entered_30d - before_30d.x12_left_30d AS BIGINT), 0) AS "num_engaged_campaigns_l30d value",
    CASE WHEN now.x13_count > before_30d.x13_count THEN now.x13_count END AS "last_page_path event number",
    CASE WHEN now.x13_count > before_1h.x13_count THEN before_1h.x13_count + 1 END AS "first_page_path_l1h event number",
    NULLIF(CAST(now.x4_count - before_1h.x4_count AS BIGINT), 0) AS "num_page_views_l1h value",
    NULLIF(CAST(now.x14_count - before_1h.x14_count AS BIGINT), 0) AS "num_key_page_views_l1h value"
  FROM running_totals AS now
  LEFT JOIN running_totals AS before_30d
    ON before_30d.visitor = now.visitor
    AND before_30d.anchor_ts = now.anchor_ts
    AND before_30d.place = 2
  LEFT JOIN running_totals AS before_7d
    ON before_7d.visitor = now.visitor
    AND before_7d.anchor_ts = now.anchor_ts
    AND before_7d.place = 3
  LEFT JOIN running_totals AS before_1h
    ON before_1h.visitor = now.visitor
    AND before_1h.anchor_ts = now.anchor_ts
    AND before_1h.place = 4
  WHERE now.place = 1
)
-- each anchor with its values
SELECT
  a.*,
  "latest_app_id event".value AS "latest_app_id",
  "latest_device_class event".value AS "latest_device_class",
  CASE WHEN c."num_sessions_l7d value" > 100 THEN 100 ELSE c."num_sessions_l7d value" END AS "num_sessions_l7d",
  CASE WHEN c."num_sessions_l30d value" > 100 THEN 100 ELSE c."num_sessions_l30d value" END AS "num_sessions_l30d",
  CASE WHEN c."num_apps_l7d value" > 100 THEN 100 ELSE c."num_apps_l7d value" END AS "num_apps_l7d",
  CASE WHEN c."num_apps_l30d value" > 100 THEN 100 ELSE c."num_apps_l30d value" END AS "num_apps_l30d",
  c."num_page_views_l7d value" AS "num_page_views_l7d",
  c."num_page_views_l30d value" AS "num_page_views_l30d",
  c."num_page_pings_l7d value" AS "num_page_pings_l7d",
  c."num_page_pings_l30d value" AS "num_page_pings_l30d",
  c."num_pricing_views_l7d value" AS "num_pricing_views_l7d",
  c."num_pricing_views_l30d value" AS "num_pricing_views_l30d",
  COALESCE(c."num_conversions_l7d value" <> 0, FALSE) AS "had_conversions_l7d",
  COALESCE(c."num_conversions_l30d value" <> 0, FALSE) AS "had_conversions_l30d",
  c."num_form_engagements_l7d value" AS "num_form_engagements_l7d",
  c."num_media_events_l30d value" AS "num_media_events_l30d",
  "first_refr_medium_l30d event".value AS "first_refr_medium_l30d",
  "first_mkt_medium_l30d event".value AS "first_mkt_medium_l30d",
  CASE WHEN c."num_engaged_campaigns_l30d value" > 100 THEN 100 ELSE c."num_engaged_campaigns_l30d value" END AS "num_engaged_campaigns_l30d",
  "last_page_path event".value AS "last_page_path",
  "first_page_path_l1h event".value AS "first_page_path_l1h",
  c."num_page_views_l1h value" AS "num_page_views_l1h",
  c."num_key_page_views_l1h value" AS "num_key_page_views_l1h",
  CAST(CAST(DATE_PART('isodow', a."anchor_ts") AS VARCHAR) AS INTEGER) AS "day_of_week"
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."domain_userid"
LEFT JOIN window_counts AS c
  ON c.visitor = v.visitor AND c.ts = a."anchor_ts"
LEFT JOIN x1_numbered AS "latest_app_id event"
  ON "latest_app_id event".visitor = c.visitor AND "latest_app_id event".number = c."latest_app_id event number"
LEFT JOIN x2_numbered AS "latest_device_class event"
  ON "latest_device_class event".visitor = c.visitor AND "latest_device_class event".number = c."latest_device_class event number"
LEFT JOIN x10_numbered AS "first_refr_medium_l30d event"
  ON "first_refr_medium_l30d event".visitor = c.visitor AND "first_refr_medium_l30d event".number = c."first_refr_medium_l30d event number"
LEFT JOIN x11_numbered AS "first_mkt_medium_l30d event"
  ON "first_mkt_medium_l30d event".visitor = c.visitor AND "first_mkt_medium_l30d event".number = c."first_mkt_medium_l30d event number"
LEFT JOIN x13_numbered AS "last_page_path event"
  ON "last_page_path event".visitor = c.visitor AND "last_page_path event".number = c."last_page_path event number"
LEFT JOIN x13_numbered AS "first_page_path_l1h event"
  ON "first_page_path_l1h event".visitor = c.visitor AND "first_page_path_l1h event".number = c."first_page_path_l1h event number"
ORDER BY a."domain_userid", a."anchor_ts"
