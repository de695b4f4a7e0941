-- Recursive queries, an index and updates, in memory.
PRAGMA temp_store = memory;
CREATE TABLE numbers(n INTEGER PRIMARY KEY, square INTEGER, word TEXT);
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300000)
  INSERT INTO numbers SELECT n, n * n, printf('%x', n * 7919 % 65536) FROM c;
SELECT count(*), sum(square) FROM numbers;
CREATE INDEX by_word ON numbers(word);
SELECT word, count(*) FROM numbers GROUP BY word ORDER BY 2 DESC, 1 LIMIT 5;
UPDATE numbers SET square = square + length(word) WHERE n % 3 = 0;
SELECT sum(square) FROM numbers;
WITH RECURSIVE fib(i, a, b) AS (
  SELECT 1, 0, 1 UNION ALL SELECT i + 1, b, (a + b) % 1000003 FROM fib WHERE i < 1500000)
  SELECT max(i), sum(a) FROM fib;
WITH RECURSIVE
  x(x) AS (SELECT -2.0 UNION ALL SELECT x + 0.02 FROM x WHERE x < 1.2),
  y(y) AS (SELECT -1.0 UNION ALL SELECT y + 0.04 FROM y WHERE y < 1.0),
  m(i, cx, cy, x, y) AS (
    SELECT 0, x, y, 0.0, 0.0 FROM x, y
    UNION ALL
    SELECT i + 1, cx, cy, x * x - y * y + cx, 2.0 * x * y + cy FROM m
      WHERE x * x + y * y < 4.0 AND i < 100),
  rows(i, cx, cy) AS (SELECT max(i), cx, cy FROM m GROUP BY cx, cy)
  SELECT group_concat(substr(' .+*#', 1 + min(i / 7, 4), 1), '') FROM rows GROUP BY cy;
SELECT count(*) FROM numbers a JOIN numbers b ON a.n = b.square % 300000 WHERE b.n < 200000;
