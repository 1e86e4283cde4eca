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
"A TIMELINE" AS (
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
"A COUNTED" AS (
  SELECT
    visitor,
    value,
    ts,
    is_anchor,
    CAST(SUM(t.events) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS BIGINT) AS events,
    MIN(CASE WHEN t.events > 0 THEN ts END) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS first_seen,
    MAX(CASE WHEN t.events > 0 THEN ts END) OVER (PARTITION BY visitor, value ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS last_seen
  FROM "A TIMELINE" AS t
),
-- a: the values by how often they occurred; ties by the one seen first
"A RANKED" AS (
  SELECT
    visitor,
    ts,
    value,
    events,
    MAX(last_seen) OVER (PARTITION BY visitor, ts) AS updated,
    ROW_NUMBER() OVER (PARTITION BY visitor, ts ORDER BY events DESC, first_seen, value) AS place
  FROM "A COUNTED"
  WHERE is_anchor = 1 AND events > 0
),
"A VALUE" AS (
  SELECT visitor, ts, OBJECT_AGG(value, events) AS "A VALUE"
  FROM "A RANKED"
  WHERE place <= 100
  GROUP BY visitor, ts
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
