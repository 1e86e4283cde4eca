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
-- one row per instant of a visitor, anchors included, with the values of that instant combined
timeline AS (
  SELECT
    visitor,
    ts,
    MAX(is_anchor) AS is_anchor,
    CAST(COUNT(x1) AS INTEGER) AS x1_events
  FROM (
    SELECT visitor, ts, 0 AS is_anchor, x1 FROM matched
    UNION ALL
    SELECT visitor, ts, 1, NULL FROM anchor_times
  ) AS instants
  GROUP BY visitor, ts
),
-- when each expiring attribute was updated before
updates AS (
  SELECT *,
    MAX(CASE WHEN x1_events > 0 THEN ts END) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS "A PREVIOUS UPDATE"
  FROM timeline
),
-- an update later than the TTL after the one before starts a new lifetime, counted from zero
lifetime_starts AS (
  SELECT *,
    CASE WHEN x1_events > 0 AND ("A PREVIOUS UPDATE" IS NULL OR ts > "A PREVIOUS UPDATE" + INTERVAL '3600 seconds') THEN 1 ELSE 0 END
      AS "A LIFETIME START"
  FROM updates
),
lifetimes AS (
  SELECT *,
    SUM("A LIFETIME START") OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS "A LIFETIME"
  FROM lifetime_starts
),
-- the value of each of these attributes at each anchor
window_values AS (
  SELECT *
  FROM (
    SELECT
      visitor,
      ts,
      is_anchor,
      CASE WHEN MAX(CASE WHEN x1_events > 0 THEN ts END) OVER (PARTITION BY visitor, "A LIFETIME" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) >= ts - INTERVAL '3600 seconds' THEN CAST(NULLIF(SUM(x1_events) OVER (PARTITION BY visitor, "A LIFETIME" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), 0) AS BIGINT) END AS "A VALUE"
    FROM lifetimes
  ) AS every_instant
  WHERE is_anchor = 1
)
-- each anchor with its values
SELECT
  a.*,
  w."A VALUE" AS "A"
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."DOMAIN_USERID"
LEFT JOIN window_values AS w
  ON w.visitor = v.visitor AND w.ts = a."ANCHOR_TS"
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
