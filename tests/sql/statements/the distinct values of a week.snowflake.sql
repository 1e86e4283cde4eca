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
-- a: whether another value follows, or the same one after the list has expired
"A CHANGES" AS (
  SELECT
    visitor,
    ts,
    value,
    CASE WHEN value = LAG(value) OVER (PARTITION BY visitor ORDER BY ts, value)
      THEN 0 ELSE 1 END AS changed,
    CASE WHEN ts > LAG(ts) OVER (PARTITION BY visitor ORDER BY ts, value) + INTERVAL '604800 seconds' THEN 1 ELSE 0 END AS expired
  FROM (SELECT DISTINCT visitor, ts, x1 AS value FROM matched WHERE x1 IS NOT NULL) AS d
),
"A NUMBERED" AS (
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
  FROM "A CHANGES"
),
-- a: each run of one value, when it is too old, and when the value's next run starts
"A RUNS" AS (
  SELECT
    visitor,
    value,
    run,
    MIN(ts) AS first_ts,
    MAX(ts) + INTERVAL '604800 seconds' AS valid_until,
    LEAD(MIN(ts)) OVER (PARTITION BY visitor, value ORDER BY run) AS next_run_ts
  FROM "A NUMBERED"
  GROUP BY visitor, value, run, lifetime
),
"A VALUE" AS (
  SELECT t.visitor, t.ts, ARRAY_SLICE(ARRAY_AGG(r.value) WITHIN GROUP (ORDER BY r.run), GREATEST(CAST(ARRAY_SIZE(ARRAY_AGG(r.value) WITHIN GROUP (ORDER BY r.run)) AS BIGINT) - 100, 0), CAST(ARRAY_SIZE(ARRAY_AGG(r.value) WITHIN GROUP (ORDER BY r.run)) AS BIGINT)) AS "A VALUE"
  FROM anchor_times AS t
  JOIN "A RUNS" AS r
    ON r.visitor = t.visitor
    AND r.first_ts <= t.ts
    AND (r.next_run_ts IS NULL OR r.next_run_ts > t.ts)
    AND (r.valid_until IS NULL OR r.valid_until >= t.ts)
  GROUP BY t.visitor, t.ts
)
-- each anchor with its values
SELECT
  a.*,
  "A VALUES"."A VALUE" AS "A"
FROM anchor_rows AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."DOMAIN_USERID"
LEFT JOIN "A VALUE" AS "A VALUES"
  ON "A VALUES".visitor = v.visitor AND "A VALUES".ts = a."ANCHOR_TS"
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
