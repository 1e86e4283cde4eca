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
    CASE WHEN `event_name` = 'page_view' AND `event_vendor` = 'com.snowplowanalytics.snowplow' AND `event_version` = '1-0-0' THEN CASE WHEN TYPEOF(GET(`contexts_nl_basjes_yauaa_context_1`, 0).`class`) RLIKE '^(float|double|decimal.*[1-9][)]$|struct|array|map)' THEN GET(TRANSFORM(ARRAY(CAST(TRY_CAST(CAST(GET(`contexts_nl_basjes_yauaa_context_1`, 0).`class` AS STRING) AS DOUBLE) + 0.0 AS STRING)), n -> CASE
    WHEN NOT n RLIKE 'E' THEN REGEXP_REPLACE(n, '[.]0$', '')
    WHEN n RLIKE 'E([1-9]|1[0-5]|-4)$' THEN TRIM(TRAILING '.' FROM
      TRIM(TRAILING '0' FROM CAST(CAST(n AS DECIMAL(38, 21)) AS STRING)))
    ELSE REGEXP_REPLACE(REGEXP_REPLACE(REGEXP_REPLACE(
      IF(n RLIKE '[0-9]{16}E'
        AND TRY_CAST(FORMAT_STRING('%.15e', TRY_CAST(n AS DOUBLE)) AS DOUBLE) = n,
        FORMAT_STRING('%.15e', TRY_CAST(n AS DOUBLE)), n),
      '[.]?0*[Ee][+]?', 'e'), 'e([0-9])', 'e+$1'), 'e-([0-9])$', 'e-0$1') END), 0) ELSE CAST(GET(`contexts_nl_basjes_yauaa_context_1`, 0).`class` AS STRING) END END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = CAST(e.`domain_userid` AS STRING)
  WHERE RAND() >= 0 DISTRIBUTE BY visitor
),
-- each anchor, and the last instant before each of its windows
lookups AS (
  SELECT visitor, ts, ts AS anchor_ts, 1 AS place FROM anchor_times
  UNION ALL
  SELECT visitor, CAST('0001-01-01 00:00:00' AS TIMESTAMP_NTZ), ts, 2 FROM anchor_times
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
-- the events that have x1, numbered as the running total x1_count counts them
x1_numbered AS (
  SELECT visitor, ts, x1 AS value, ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts, x1) AS number
  FROM matched
  WHERE x1 IS NOT NULL
),
-- the totals at each anchor, less the totals before each window
window_counts AS (
  SELECT
    visitor,
    anchor_ts AS ts,
    CASE WHEN MAX(CASE WHEN place = 1 THEN x1_count END) > MAX(CASE WHEN place = 2 THEN x1_count END) THEN MAX(CASE WHEN place = 1 THEN x1_count END) END AS `a event number`
  FROM running_totals
  GROUP BY visitor, anchor_ts
)
-- each anchor with its values
SELECT
  a.*,
  `a event`.value AS `a`
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a.`domain_userid`
LEFT JOIN window_counts AS c
  ON c.visitor = v.visitor AND c.ts = a.`anchor_ts`
LEFT JOIN x1_numbered AS `a event`
  ON `a event`.visitor = c.visitor AND `a event`.number = c.`a event number`
ORDER BY a.`domain_userid`, a.`anchor_ts`
