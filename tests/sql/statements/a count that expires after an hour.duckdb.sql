WITH
-- the visitors of the anchors
visitors AS MATERIALIZED (
  SELECT visitor_key, CAST(ROW_NUMBER() OVER (ORDER BY visitor_key) AS INTEGER) AS visitor
  FROM (
    SELECT DISTINCT a."domain_userid" AS visitor_key FROM anchors AS a WHERE a."domain_userid" IS NOT NULL
  ) AS distinct_keys
),
-- the instants of each visitor's anchors
anchor_times AS MATERIALIZED (
  SELECT DISTINCT v.visitor, CAST(a."anchor_ts" AS TIMESTAMP) AS ts
  FROM anchors AS a
  JOIN visitors AS v ON v.visitor_key = a."domain_userid"
),
-- the value that each event has for the attributes named above it, NULL if it does not count
matched AS MATERIALIZED (
  SELECT
    v.visitor,
    CAST(e."derived_tstamp" AS TIMESTAMP) AS ts,
    -- a
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN TRUE END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = e."domain_userid"
),
-- one row per instant of a visitor, anchors included, with the values of that instant combined
timeline AS MATERIALIZED (
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
    ) AS "a previous update"
  FROM timeline
),
-- an update later than the TTL after the one before starts a new lifetime, counted from zero
lifetime_starts AS (
  SELECT *,
    CASE WHEN x1_events > 0 AND ("a previous update" IS NULL OR ts > "a previous update" + INTERVAL '3600 seconds') THEN 1 ELSE 0 END
      AS "a lifetime start"
  FROM updates
),
lifetimes AS (
  SELECT *,
    SUM("a lifetime start") OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS "a lifetime"
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
      CASE WHEN MAX(CASE WHEN x1_events > 0 THEN ts END) OVER (PARTITION BY visitor, "a lifetime" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) >= ts - INTERVAL '3600 seconds' THEN CAST(NULLIF(SUM(x1_events) OVER (PARTITION BY visitor, "a lifetime" ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), 0) AS BIGINT) END AS "a"
    FROM lifetimes
  ) AS every_instant
  WHERE is_anchor = 1
)
-- each anchor with its values
SELECT
  a.*,
  w."a" AS "a"
FROM anchors AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."domain_userid"
LEFT JOIN anchor_times AS t ON t.visitor = v.visitor AND t.ts = CAST(a."anchor_ts" AS TIMESTAMP)
LEFT JOIN window_values AS w
  ON w.visitor = t.visitor AND w.ts = t.ts
ORDER BY a."domain_userid", a."anchor_ts"
