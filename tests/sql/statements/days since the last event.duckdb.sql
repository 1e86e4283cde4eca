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
    -- a
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN TRUE END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = CAST(e."domain_userid" AS VARCHAR)
),
-- each anchor, and the last instant before each of its windows
lookups AS (
  SELECT visitor, ts, ts AS anchor_ts, 1 AS place FROM anchor_times
  UNION ALL
  SELECT visitor, CAST('-infinity' AS TIMESTAMP), ts, 2 FROM anchor_times
),
-- in one stream: what is counted when, and the instants at which totals are looked up
merged_stream AS (
  SELECT
    visitor,
    ts,
    CAST(NULL AS TIMESTAMP) AS anchor_ts,
    0 AS place,
    x1 IS NOT NULL AS x1_count
  FROM matched
  UNION ALL
  SELECT visitor, ts, anchor_ts, place, FALSE
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
      CAST(COUNT(*) FILTER (WHERE x1_count) OVER (ROWS UNBOUNDED PRECEDING) AS INTEGER) AS x1_count
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
-- the totals at each anchor, less the totals before each window
window_counts AS (
  SELECT
    now.visitor,
    now.anchor_ts AS ts,
    CASE WHEN now.x1_count > before_all.x1_count THEN now.x1_count END AS "a event number"
  FROM running_totals AS now
  LEFT JOIN running_totals AS before_all
    ON before_all.visitor = now.visitor
    AND before_all.anchor_ts = now.anchor_ts
    AND before_all.place = 2
  WHERE now.place = 1
)
-- each anchor with its values
SELECT
  a.*,
  CAST((epoch_us(a."anchor_ts") - epoch_us("a event".ts)) AS DOUBLE) / 1e6 / 86400.0 AS "a"
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."domain_userid"
LEFT JOIN window_counts AS c
  ON c.visitor = v.visitor AND c.ts = a."anchor_ts"
LEFT JOIN x1_numbered AS "a event"
  ON "a event".visitor = c.visitor AND "a event".number = c."a event number"
ORDER BY a."domain_userid", a."anchor_ts"
