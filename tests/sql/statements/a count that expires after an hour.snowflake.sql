WITH
-- the visitors of the anchors
visitors AS (
  SELECT visitor_key, visitor_key AS visitor
  FROM (
    SELECT DISTINCT a."DOMAIN_USERID" AS visitor_key FROM anchors AS a WHERE a."DOMAIN_USERID" IS NOT NULL
  ) AS distinct_keys
),
-- the instants of each visitor's anchors
anchor_times AS (
  SELECT DISTINCT v.visitor, CAST(a."ANCHOR_TS" AS TIMESTAMP_NTZ) AS ts
  FROM anchors AS a
  JOIN visitors AS v ON v.visitor_key = a."DOMAIN_USERID"
),
-- the value that each event has for the attributes named above it, NULL if it does not count
matched AS (
  SELECT
    v.visitor,
    CAST(e."DERIVED_TSTAMP" AS TIMESTAMP_NTZ) AS ts,
    -- a
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN TRUE END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = e."DOMAIN_USERID"
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
      CASE WHEN MAX(CASE WHEN x1_events > 0 THEN ts END) OVER (PARTITION BY visitor, "A LIFETIME" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) >= ts - INTERVAL '3600 seconds' THEN CAST(NULLIF(SUM(x1_events) OVER (PARTITION BY visitor, "A LIFETIME" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), 0) AS BIGINT) END AS "A"
    FROM lifetimes
  ) AS every_instant
  WHERE is_anchor = 1
)
-- each anchor with its values
SELECT
  a.*,
  w."A" AS "A"
FROM anchors AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."DOMAIN_USERID"
LEFT JOIN anchor_times AS t ON t.visitor = v.visitor AND t.ts = CAST(a."ANCHOR_TS" AS TIMESTAMP_NTZ)
LEFT JOIN window_values AS w
  ON w.visitor = t.visitor AND w.ts = t.ts
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
