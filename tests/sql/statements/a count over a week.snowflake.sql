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
    -- a
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN TRUE END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = CAST(e."DOMAIN_USERID" AS VARCHAR)
),
-- each anchor, and the last instant before each of its windows
lookups AS (
  SELECT visitor, ts, ts AS anchor_ts, 1 AS place FROM anchor_times
  UNION ALL
  SELECT visitor, ts - INTERVAL '604800 seconds, 1 microseconds', ts, 2 FROM anchor_times
),
-- in one stream: what is counted when, and the instants at which totals are looked up
merged_stream AS (
  SELECT
    visitor,
    ts,
    CAST(NULL AS TIMESTAMP_NTZ) AS anchor_ts,
    0 AS place,
    x1 IS NOT NULL AS x1_count
  FROM matched
  UNION ALL
  SELECT visitor, ts, anchor_ts, place, FALSE
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
      COUNT(CASE WHEN x1_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts, place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1_count
    FROM merged_stream
  ) AS totals_per_row
  WHERE place > 0
),
-- the totals at each anchor, less the totals before each window
window_counts AS (
  SELECT
    visitor,
    anchor_ts AS ts,
    NULLIF(CAST(MAX(CASE WHEN place = 1 THEN x1_count END) - MAX(CASE WHEN place = 2 THEN x1_count END) AS BIGINT), 0) AS "A VALUE"
  FROM running_totals
  GROUP BY visitor, anchor_ts
)
-- each anchor with its values
SELECT
  a.*,
  c."A VALUE" AS "A"
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."DOMAIN_USERID"
LEFT JOIN window_counts AS c
  ON c.visitor = v.visitor AND c.ts = a."ANCHOR_TS"
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
