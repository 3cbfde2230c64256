-- Requests for wrk: wrk … -s load.lua URL -- KIND USERS [PATH]
-- KIND: uniform, zipf, miss, batch (100 ids), vectors (100 ids and the feature `embedding`), mixed (nine single reads
-- to a batch), or fixed PATH for other servers, where %s stands for the id. Prints one line of JSON at the end.
local kind, users, template, number = 'uniform', 100000, nil, 0

local function uniform_id() return string.format('user%05d', math.random(0, users - 1)) end

-- Zipf-like with exponent near 1, by inversion: few users get most requests.
local function zipf_id() return string.format('user%05d', math.floor(math.exp(math.random() * math.log(users))) - 1) end

local function batch(rest)
  local ids = {}
  for position = 1, 100 do ids[position] = '"' .. uniform_id() .. '"' end
  return wrk.format('POST', '/features/batch', { ['Content-Type'] = 'application/json', Host = wrk.headers.Host },
    '{"user_ids":[' .. table.concat(ids, ',') .. ']' .. (rest or '') .. '}')
end

local function single(id) return wrk.format('GET', (string.gsub(template, '%%s', id))) end

function init(arguments)
  kind, users, template = arguments[1], tonumber(arguments[2]), arguments[3] or '/features/%s'
  math.randomseed(os.time())
end

function request()
  number = number + 1
  if kind == 'batch' or (kind == 'mixed' and number % 10 == 0) then return batch() end
  if kind == 'vectors' then return batch(',"features":["embedding"]') end
  if kind == 'zipf' then return single(zipf_id()) end
  if kind == 'miss' then return single('nobody' .. number) end
  return single(uniform_id())
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.3f,"p50":%d,"p90":%d,"p99":%d,"p999":%d,"status":%d,"socket":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency:percentile(99.9), errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
