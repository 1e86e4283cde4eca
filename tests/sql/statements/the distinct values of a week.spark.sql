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
-- a: whether another value follows, or the same one after the list has expired
`a changes` AS (
  SELECT
    visitor,
    ts,
    value,
    CASE WHEN value = LAG(value) OVER (PARTITION BY visitor ORDER BY ts, value)
      THEN 0 ELSE 1 END AS changed,
    CASE WHEN ts > LAG(ts) OVER (PARTITION BY visitor ORDER BY ts, value) + INTERVAL '604800' SECOND THEN 1 ELSE 0 END AS expired
  FROM (SELECT DISTINCT visitor, ts, x1 AS value FROM matched WHERE x1 IS NOT NULL) AS d
),
`a numbered` AS (
  SELECT
    visitor,
    ts,
    value,
    SUM(expired) OVER (
      PARTITION BY visitor ORDER BY ts, value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS lifetime,
    SUM(CASE WHEN changed + expired > 0 THEN 1 ELSE 0 END) OVER (
      PARTITION BY visitor ORDER BY ts, value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS run
  FROM `a changes`
),
-- a: each run of one value, when it is too old, and when the value's next run starts
`a runs` AS (
  SELECT
    visitor,
    value,
    run,
    MIN(ts) AS first_ts,
    MAX(ts) + INTERVAL '604800' SECOND AS valid_until,
    LEAD(MIN(ts)) OVER (PARTITION BY visitor, value ORDER BY run) AS next_run_ts
  FROM `a numbered`
  GROUP BY visitor, value, run, lifetime
),
`a value` AS (
  SELECT t.visitor, t.ts, REVERSE(SLICE(REVERSE(SORT_ARRAY(COLLECT_LIST(NAMED_STRUCT('place', r.run, 'value', r.value))).value), 1, 100)) AS `a value`
  FROM anchor_times AS t
  JOIN `a runs` AS r
    ON r.visitor = t.visitor
    AND r.first_ts <= t.ts
    AND (r.next_run_ts IS NULL OR r.next_run_ts > t.ts)
    AND (r.valid_until IS NULL OR r.valid_until >= t.ts)
  GROUP BY t.visitor, t.ts
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
