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
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("APP_ID" AS VARCHAR) END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = CAST(e."DOMAIN_USERID" AS VARCHAR)
),
-- which values each event has; the values themselves where distinct ones are counted
flags AS (
  SELECT
    visitor,
    ts,
    x1 IS NOT NULL AS has_x1
  FROM matched
),
-- which totals each event adds one to: it has a value, or its value enters or leaves a window
increments AS (
  SELECT
    visitor,
    ts,
    has_x1 AS x1_count
  FROM flags
  UNION ALL
  SELECT visitor, CAST('0001-01-01 00:00:00' AS TIMESTAMP_NTZ), FALSE
  FROM visitors
),
-- the running totals after each instant of a visitor
running_totals AS (
  SELECT visitor, ts, x1_count
  FROM (
    SELECT
      visitor,
      ts,
      COUNT(CASE WHEN x1_count THEN 1 END) OVER (PARTITION BY visitor ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1_count,
      LEAD(ts) OVER (PARTITION BY visitor ORDER BY ts) AS next_ts
    FROM increments
  ) AS totals_per_event
  WHERE next_ts IS NULL OR next_ts <> ts
),
-- the events that have x1, numbered as the running total x1_count counts them
x1_numbered AS (
  SELECT visitor, ts, x1 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x1) AS number
  FROM matched
  WHERE x1 IS NOT NULL
),
-- the totals at each anchor, less the totals before each window
window_counts AS (
  SELECT
    a.visitor,
    a.ts,
    CASE WHEN now.x1_count > before_7d.x1_count THEN before_7d.x1_count + 1 END AS "A EVENT NUMBER"
  FROM (SELECT visitor, ts, ts - INTERVAL '604800 seconds, 1 microseconds' AS start_7d FROM anchor_times) AS a
  ASOF JOIN (SELECT visitor, ts, x1_count FROM running_totals) AS now MATCH_CONDITION (a.ts >= now.ts) ON now.visitor = a.visitor
  ASOF JOIN (SELECT visitor, ts, x1_count FROM running_totals) AS before_7d MATCH_CONDITION (a.start_7d >= before_7d.ts) ON before_7d.visitor = a.visitor
)
-- each anchor with its values
SELECT
  a.*,
  "A EVENT".value AS "A"
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."DOMAIN_USERID"
LEFT JOIN anchor_times AS t ON t.visitor = v.visitor AND t.ts = a."ANCHOR_TS"
LEFT JOIN window_counts AS c
  ON c.visitor = t.visitor AND c.ts = t.ts
LEFT JOIN x1_numbered AS "A EVENT"
  ON "A EVENT".visitor = c.visitor AND "A EVENT".number = c."A EVENT NUMBER"
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
