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
    -- a
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN TRUE END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = CAST(e.`domain_userid` AS STRING)
  WHERE RAND() >= 0 DISTRIBUTE BY visitor
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
    ) AS `a previous update`
  FROM timeline
),
-- an update later than the TTL after the one before starts a new lifetime, counted from zero
lifetime_starts AS (
  SELECT *,
    CASE WHEN x1_events > 0 AND (`a previous update` IS NULL OR ts > `a previous update` + INTERVAL '3600' SECOND) THEN 1 ELSE 0 END
      AS `a lifetime start`
  FROM updates
),
lifetimes AS (
  SELECT *,
    SUM(`a lifetime start`) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS `a lifetime`
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
      CASE WHEN MAX(CASE WHEN x1_events > 0 THEN ts END) OVER (PARTITION BY visitor, `a lifetime` ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) >= ts - INTERVAL '3600' SECOND THEN CAST(NULLIF(SUM(x1_events) OVER (PARTITION BY visitor, `a lifetime` ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), 0) AS BIGINT) END AS `a value`
    FROM lifetimes
  ) AS every_instant
  WHERE is_anchor = 1
)
-- each anchor with its values
SELECT
  a.*,
  w.`a value` AS `a`
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a.`domain_userid`
LEFT JOIN window_values AS w
  ON w.visitor = v.visitor AND w.ts = a.`anchor_ts`
ORDER BY a.`domain_userid`, a.`anchor_ts`
