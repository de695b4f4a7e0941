-- Tables, closures, coroutines, strings.
local steps = tonumber(arg[1])
local state, heap = 1, {}
local function random(n)
  state = (state * 6364136223846793005 + 1442695040888963407)
  return (state >> 33) % n
end
local function walk(n)
  return coroutine.wrap(function() for i = 1, n do coroutine.yield(random(i)) end end)
end
for step = 1, steps do
  for value in walk(20000) do heap[#heap + 1] = {value, string.format("%05d", value)} end
  table.sort(heap, function(a, b) return a[1] < b[1] end)
  while #heap > 30000 do table.remove(heap) end
  local parts = {}
  for i = 1, #heap, 1000 do parts[#parts + 1] = heap[i][2] end
  print(step, #heap, table.concat(parts, " "))
  if step % 2 == 0 then io.flush() end
end
