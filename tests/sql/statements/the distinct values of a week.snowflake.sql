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
    CASE WHEN "EVENT_NAME" = 'page_view' AND "EVENT_VENDOR" = 'com.snowplowanalytics.snowplow' AND "EVENT_VERSION" = '1-0-0' THEN CAST("APP_ID" AS VARCHAR) END AS x1
  FROM events AS e
  JOIN visitors AS v ON v.visitor_key = e."DOMAIN_USERID"
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
"A" AS (
  SELECT t.visitor, t.ts, ARRAY_SLICE(ARRAY_AGG(r.value) WITHIN GROUP (ORDER BY r.run), GREATEST(CAST(ARRAY_SIZE(ARRAY_AGG(r.value) WITHIN GROUP (ORDER BY r.run)) AS BIGINT) - 100, 0), CAST(ARRAY_SIZE(ARRAY_AGG(r.value) WITHIN GROUP (ORDER BY r.run)) AS BIGINT)) AS "A"
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
  "A VALUES"."A" AS "A"
FROM anchors AS a
LEFT JOIN visitors AS v ON v.visitor_key = a."DOMAIN_USERID"
LEFT JOIN anchor_times AS t ON t.visitor = v.visitor AND t.ts = CAST(a."ANCHOR_TS" AS TIMESTAMP_NTZ)
LEFT JOIN "A" AS "A VALUES"
  ON "A VALUES".visitor = t.visitor AND "A VALUES".ts = t.ts
ORDER BY a."DOMAIN_USERID", a."ANCHOR_TS"
