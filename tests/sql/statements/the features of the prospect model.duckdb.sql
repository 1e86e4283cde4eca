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
-- which values each event has; the values themselves where distinct ones are counted
flags AS (
  SELECT
    visitor,
    ts, x3, x1, x12,
    x1 IS NOT NULL AS has_x1,
    x2 IS NOT NULL AS has_x2,
    x3 IS NOT NULL AS has_x3,
    x4 IS NOT NULL AS has_x4,
    x5 IS NOT NULL AS has_x5,
    x6 IS NOT NULL AS has_x6,
    x7 IS NOT NULL AS has_x7,
    x8 IS NOT NULL AS has_x8,
    x9 IS NOT NULL AS has_x9,
    x10 IS NOT NULL AS has_x10,
    x11 IS NOT NULL AS has_x11,
    x12 IS NOT NULL AS has_x12,
    x13 IS NOT NULL AS has_x13,
    x14 IS NOT NULL AS has_x14
  FROM matched
),
-- when the visitor had the same value before, and when next
neighbours AS (
  SELECT
    *,
    LAG(ts) OVER (PARTITION BY visitor, x3 ORDER BY ts) AS x3_previous_ts,
    LEAD(ts) OVER (PARTITION BY visitor, x3 ORDER BY ts) AS x3_next_ts,
    LAG(ts) OVER (PARTITION BY visitor, x1 ORDER BY ts) AS x1_previous_ts,
    LEAD(ts) OVER (PARTITION BY visitor, x1 ORDER BY ts) AS x1_next_ts,
    LAG(ts) OVER (PARTITION BY visitor, x12 ORDER BY ts) AS x12_previous_ts,
    LEAD(ts) OVER (PARTITION BY visitor, x12 ORDER BY ts) AS x12_next_ts
  FROM flags
  WHERE has_x3 OR has_x1 OR has_x12
  UNION ALL
  SELECT *, CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP)
  FROM flags
  WHERE NOT (has_x3 OR has_x1 OR has_x12)
),
-- which totals each event adds one to: it has a value, or its value enters or leaves a window
increments AS (
  SELECT
    visitor,
    ts,
    has_x1 AS x1_count,
    has_x2 AS x2_count,
    has_x3 AND (x3_previous_ts IS NULL OR ts > x3_previous_ts + INTERVAL '604800 seconds') AS x3_entered_7d,
    has_x3 AND (x3_previous_ts IS NULL OR ts > x3_previous_ts + INTERVAL '2592000 seconds') AS x3_entered_30d,
    has_x1 AND (x1_previous_ts IS NULL OR ts > x1_previous_ts + INTERVAL '604800 seconds') AS x1_entered_7d,
    has_x1 AND (x1_previous_ts IS NULL OR ts > x1_previous_ts + INTERVAL '2592000 seconds') AS x1_entered_30d,
    has_x4 AS x4_count,
    has_x5 AS x5_count,
    has_x6 AS x6_count,
    has_x7 AS x7_count,
    has_x8 AS x8_count,
    has_x9 AS x9_count,
    has_x10 AS x10_count,
    has_x11 AS x11_count,
    has_x12 AND (x12_previous_ts IS NULL OR ts > x12_previous_ts + INTERVAL '2592000 seconds') AS x12_entered_30d,
    has_x13 AS x13_count,
    has_x14 AS x14_count,
    has_x3 AND (x3_next_ts IS NULL OR x3_next_ts > ts + INTERVAL '604800 seconds') AS x3_left_7d,
    has_x3 AND (x3_next_ts IS NULL OR x3_next_ts > ts + INTERVAL '2592000 seconds') AS x3_left_30d,
    has_x1 AND (x1_next_ts IS NULL OR x1_next_ts > ts + INTERVAL '604800 seconds') AS x1_left_7d,
    has_x1 AND (x1_next_ts IS NULL OR x1_next_ts > ts + INTERVAL '2592000 seconds') AS x1_left_30d,
    has_x12 AND (x12_next_ts IS NULL OR x12_next_ts > ts + INTERVAL '2592000 seconds') AS x12_left_30d
  FROM neighbours
  UNION ALL
  SELECT visitor, CAST('-infinity' AS TIMESTAMP), FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE, FALSE
  FROM visitors
),
-- the running totals after each instant of a visitor
-- (they run on from one visitor to the next, because DuckDB counts fastest in one sorted pass;
-- only differences between two totals of one visitor are used)
running_totals AS MATERIALIZED (
  SELECT visitor, ts, x1_count, x2_count, x3_entered_7d, x3_entered_30d, x1_entered_7d, x1_entered_30d, x4_count, x5_count, x6_count, x7_count, x8_count, x9_count, x10_count, x11_count, x12_entered_30d, x13_count, x14_count, x3_left_7d, x3_left_30d, x1_left_7d, x1_left_30d, x12_left_30d
  FROM (
    SELECT
      visitor,
      ts,
      CAST(COUNT(*) FILTER (WHERE x1_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_count,
      CAST(COUNT(*) FILTER (WHERE x2_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x2_count,
      CAST(COUNT(*) FILTER (WHERE x3_entered_7d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x3_entered_7d,
      CAST(COUNT(*) FILTER (WHERE x3_entered_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x3_entered_30d,
      CAST(COUNT(*) FILTER (WHERE x1_entered_7d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_entered_7d,
      CAST(COUNT(*) FILTER (WHERE x1_entered_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_entered_30d,
      CAST(COUNT(*) FILTER (WHERE x4_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x4_count,
      CAST(COUNT(*) FILTER (WHERE x5_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x5_count,
      CAST(COUNT(*) FILTER (WHERE x6_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x6_count,
      CAST(COUNT(*) FILTER (WHERE x7_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x7_count,
      CAST(COUNT(*) FILTER (WHERE x8_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x8_count,
      CAST(COUNT(*) FILTER (WHERE x9_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x9_count,
      CAST(COUNT(*) FILTER (WHERE x10_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x10_count,
      CAST(COUNT(*) FILTER (WHERE x11_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x11_count,
      CAST(COUNT(*) FILTER (WHERE x12_entered_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x12_entered_30d,
      CAST(COUNT(*) FILTER (WHERE x13_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x13_count,
      CAST(COUNT(*) FILTER (WHERE x14_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x14_count,
      CAST(COUNT(*) FILTER (WHERE x3_left_7d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x3_left_7d,
      CAST(COUNT(*) FILTER (WHERE x3_left_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x3_left_30d,
      CAST(COUNT(*) FILTER (WHERE x1_left_7d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_left_7d,
      CAST(COUNT(*) FILTER (WHERE x1_left_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_left_30d,
      CAST(COUNT(*) FILTER (WHERE x12_left_30d) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x12_left_30d,
      LEAD(ts) OVER () AS next_ts
    FROM (SELECT * FROM increments ORDER BY visitor, ts)
  ) AS totals_per_event
  WHERE next_ts IS NULL OR next_ts <> ts
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
    a.visitor,
    a.ts,
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
  FROM (SELECT visitor, ts, ts - INTERVAL '2592000000001 microseconds' AS start_30d, ts - INTERVAL '604800000001 microseconds' AS start_7d, ts - INTERVAL '3600000001 microseconds' AS start_1h FROM anchor_times) AS a
  ASOF LEFT JOIN (SELECT visitor, ts, x1_count, x2_count, x3_entered_7d, x3_entered_30d, x1_entered_7d, x1_entered_30d, x4_count, x5_count, x6_count, x7_count, x8_count, x9_count, x10_count, x11_count, x12_entered_30d, x13_count, x14_count FROM running_totals) AS now ON now.visitor = a.visitor AND a.ts >= now.ts
  ASOF LEFT JOIN (SELECT visitor, ts, x1_count, x2_count, x3_left_30d, x1_left_30d, x4_count, x5_count, x6_count, x7_count, x9_count, x10_count, x11_count, x12_left_30d, x13_count FROM running_totals) AS before_30d ON before_30d.visitor = a.visitor AND a.start_30d >= before_30d.ts
  ASOF LEFT JOIN (SELECT visitor, ts, x3_left_7d, x1_left_7d, x4_count, x5_count, x6_count, x7_count, x8_count FROM running_totals) AS before_7d ON before_7d.visitor = a.visitor AND a.start_7d >= before_7d.ts
  ASOF LEFT JOIN (SELECT visitor, ts, x13_count, x4_count, x14_count FROM running_totals) AS before_1h ON before_1h.visitor = a.visitor AND a.start_1h >= before_1h.ts
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
LEFT JOIN anchor_times AS t ON t.visitor = v.visitor AND t.ts = a."anchor_ts"
LEFT JOIN window_counts AS c
  ON c.visitor = t.visitor AND c.ts = t.ts
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
