-- Requests for wrk: wrk … -s load.lua URL -- KIND USERS [TARGET] [IDS] [REST] [ACCEPT]
-- KIND: uniform, zipf, miss (a single read each), batch (IDS ids), mixed (nine single reads to a batch).
-- TARGET: of a single read, where %s stands for the id: /features/%s, with a query or for other servers.
-- IDS: of a batch, 100 if left out. REST: what stands behind the ids in a batch, such as ,"service":"some".
-- ACCEPT: the header field of a batch. `-` leaves a word out. Prints one line of JSON at the end.
local BODIES = 256 -- batches made beforehand and sent in turn, so that making them is not what is measured
local kind, users, template, ids, rest, accept, number, bodies = 'uniform', 100000, nil, 100, '', nil, 0, {}

local function uniform_id() return string.format('user%05d', math.random(0, users - 1)) end

-- Zipf-like with exponent near 1, by inversion: few users get most requests.
local function zipf_id() return string.format('user%05d', math.floor(math.exp(math.random() * math.log(users))) - 1) end

local function make_batch()
  local list = {}
  for position = 1, ids do list[position] = '"' .. uniform_id() .. '"' end
  local headers = { ['Content-Type'] = 'application/json', Host = wrk.headers.Host, Accept = accept }
  return wrk.format('POST', '/features/batch', headers, '{"user_ids":[' .. table.concat(list, ',') .. ']' .. rest .. '}')
end

local function batch()
  local place = number % BODIES
  if not bodies[place] then bodies[place] = make_batch() end
  return bodies[place]
end

local function single(id) return wrk.format('GET', (string.gsub(template, '%%s', id))) end

function init(arguments)
  local function word(place, default) return arguments[place] ~= '-' and arguments[place] or default end
  kind, users, template = arguments[1], tonumber(arguments[2]), word(3, '/features/%s')
  ids, rest, accept = tonumber(word(4, '100')), word(5, ''), word(6)
  math.randomseed(os.time())
end

function request()
  number = number + 1
  if kind == 'batch' or (kind == 'mixed' and number % 10 == 0) then return batch() end
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
