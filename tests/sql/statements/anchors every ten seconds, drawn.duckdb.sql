WITH
-- the events that count
seen AS (
  SELECT
    "domain_userid" AS visitor,
    CAST("derived_tstamp" AS TIMESTAMP) AS ts,
    "domain_sessionid" AS session,
    NULL AS app,
    CASE WHEN "event_name" = 'page_view' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN 1 ELSE 0 END AS anchor,
    CASE WHEN "event_name" = 'submit_form' AND "event_vendor" = 'com.snowplowanalytics.snowplow' AND "event_version" = '1-0-0' THEN 1 ELSE 0 END AS goal
  FROM events
  WHERE "domain_userid" IS NOT NULL
),
ending AS (
  SELECT MAX(ts) AS data_end FROM seen
),
goals AS (
  SELECT visitor, ts FROM seen WHERE goal = 1 GROUP BY visitor, ts
),
-- how many events each visitor had had, after each instant
so_far AS (
  SELECT
    visitor,
    ts,
    SUM(COUNT(*)) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS events
  FROM seen
  GROUP BY visitor, ts
),
-- the moments at which a visitor is scored
places AS (
  SELECT visitor, ts, MIN(session) AS session
  FROM (
    SELECT visitor, ts, session FROM seen WHERE anchor = 1
    UNION ALL
    SELECT visitor, started + to_microseconds(passed) AS ts, session
    FROM (
      SELECT
        visitor,
        session,
        MIN(ts) OVER (PARTITION BY visitor, session) AS started,
        CAST(CEIL((epoch_us(ts) - epoch_us(MIN(ts) OVER (PARTITION BY visitor, session))) / 10000000.0) AS BIGINT) * 10000000 AS passed
      FROM seen
    ) AS present
  ) AS everywhere
  GROUP BY visitor, ts
),
-- those whose horizon the data covers: of the others the label is not known
eligible AS (
  SELECT
    p.visitor,
    p.ts,
    COALESCE(goal.ts <= p.ts + INTERVAL '3600 seconds', FALSE) AS positive,
    MD5(CONCAT(p.visitor, ' ', CAST((epoch_us(p.ts) - epoch_us(CAST('1970-01-01' AS TIMESTAMP))) AS VARCHAR), ' 0')) AS lot,
    ROW_NUMBER() OVER (PARTITION BY p.visitor, p.session ORDER BY MD5(CONCAT(p.visitor, ' ', CAST((epoch_us(p.ts) - epoch_us(CAST('1970-01-01' AS TIMESTAMP))) AS VARCHAR), ' 0')), p.ts) AS place
  FROM places AS p
  ASOF LEFT JOIN goals AS goal ON goal.visitor = p.visitor AND p.ts < goal.ts
  ASOF LEFT JOIN so_far AS before ON before.visitor = p.visitor AND p.ts > before.ts
  CROSS JOIN ending
  WHERE p.ts <= ending.data_end - INTERVAL '3600 seconds' AND before.events >= 2
)
SELECT
  visitor AS "domain_userid",
  ts AS "anchor_ts",
  positive AS "label",
  CASE WHEN positive THEN 1.0 ELSE 10.0 END AS "weight"
FROM eligible
WHERE place <= 3
AND (positive OR SUBSTR(lot, 17, 8) < '1999999a')
ORDER BY 1, 2
