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
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN CAST(`app_id` AS STRING) END AS x1
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
-- a: a timeline for each value of a visitor
`a timeline` AS (
  SELECT d.visitor, d.value, t.ts, t.is_anchor, COALESCE(c.events, 0) AS events
  FROM (SELECT DISTINCT visitor, x1 AS value FROM matched WHERE x1 IS NOT NULL) AS d
  JOIN timeline AS t
    ON t.visitor = d.visitor AND (t.is_anchor = 1 OR t.x1_events > 0)
  LEFT JOIN (
    SELECT visitor, ts, x1 AS value, COUNT(*) AS events
    FROM matched
    WHERE x1 IS NOT NULL
    GROUP BY visitor, ts, x1
  ) AS c
    ON c.visitor = d.visitor AND c.ts = t.ts AND c.value = d.value
),
`a counted` AS (
  SELECT
    visitor,
    value,
    ts,
    is_anchor,
    CAST(SUM(t.events) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS BIGINT) AS events,
    MIN(CASE WHEN t.events > 0 THEN ts END) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS first_seen,
    MAX(CASE WHEN t.events > 0 THEN ts END) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS last_seen
  FROM `a timeline` AS t
),
-- a: the values by how often they occurred; ties by the one seen first
`a ranked` AS (
  SELECT
    visitor,
    ts,
    value,
    events,
    MAX(last_seen) OVER (PARTITION BY visitor, ts) AS updated,
    ROW_NUMBER() OVER (PARTITION BY visitor, ts ORDER BY events DESC, first_seen, value) AS place
  FROM `a counted`
  WHERE is_anchor = 1 AND events > 0
),
`a value` AS (
  SELECT visitor, ts, TO_JSON(MAP_FROM_ARRAYS(SORT_ARRAY(COLLECT_LIST(NAMED_STRUCT('place', place, 'value', value))).value, SORT_ARRAY(COLLECT_LIST(NAMED_STRUCT('place', place, 'value', events))).value)) AS `a value`
  FROM `a ranked`
  WHERE place <= 100
  GROUP BY visitor, ts
)
-- each anchor with its values
SELECT
  a.*,
  `a values`.`a value` AS `a`
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a.`domain_userid`
LEFT JOIN `a value` AS `a values`
  ON `a values`.visitor = v.visitor AND `a values`.ts = a.`anchor_ts`
ORDER BY a.`domain_userid`, a.`anchor_ts`
