-- What an engineer who wants speed writes for nginx with LuaJIT: SISMEMBER and HGETALL in one pipeline over a kept
-- connection, a table of types, cjson. One module, loaded once by each worker.
local cjson = require('cjson.safe')
local redis = require('nginx.redis')
local new_table = require('table.new')

local ngx, tonumber, sub = ngx, tonumber, string.sub
local null, encode, decode = ngx.null, cjson.encode, cjson.decode
local PORT, DATABASE = tonumber(os.getenv('REDIS_PORT')), os.getenv('REDIS_DATABASE')
local POOL = { pool = 'features' }
local IDLE_MS, CONNECTIONS, TIMEOUT_MS = 60000, 512, 1000
local TEXT = { preferred_category = true, country = true, device = true }

local M = {}

local function respond(status, body)
  ngx.status = status
  ngx.header.content_length = #body
  ngx.print(body)
end

local function problem(status, detail)
  ngx.header.content_type = 'application/problem+json'
  respond(status, encode({ title = 'Error', status = status, detail = detail }))
end

-- The replies to SISMEMBER and HGETALL of each id, in turn.
local function fetch(ids)
  local client, failure = redis:new()
  if not client then return nil, failure end
  client:set_timeout(TIMEOUT_MS)
  local ok
  ok, failure = client:connect('127.0.0.1', PORT, POOL)
  if not ok then return nil, failure end
  if client:get_reused_times() == 0 then
    ok, failure = client:select(DATABASE)
    if not ok then return nil, failure end
  end
  client:init_pipeline(2 * #ids)
  for position = 1, #ids do
    local id = ids[position]
    client:sismember('all_users', id)
    client:hgetall('user:' .. id .. ':features')
  end
  local replies
  replies, failure = client:commit_pipeline()
  if not replies then return nil, failure end
  client:set_keepalive(IDLE_MS, CONNECTIONS)
  return replies
end

local function cast(fields)
  local features = new_table(0, #fields / 2)
  for position = 1, #fields, 2 do
    local name, text = fields[position], fields[position + 1]
    features[name] = TEXT[name] and text or tonumber(text)
  end
  return features
end

function M.single()
  local id = ngx.unescape_uri(sub(ngx.var.uri, #'/features/' + 1))
  local replies, failure = fetch({ id })
  if not replies then return problem(503, failure) end
  if replies[1] ~= 1 then return problem(404, 'User ' .. id .. ' not found') end
  respond(200, encode({ user_id = id, features = cast(replies[2]) }))
end

function M.batch()
  ngx.req.read_body()
  local asked = decode(ngx.req.get_body_data() or '')
  local ids = type(asked) == 'table' and asked.user_ids
  if type(ids) ~= 'table' then return problem(422, 'user_ids is a list of ids') end
  local replies, failure = fetch(ids)
  if not replies then return problem(503, failure) end
  local rows = new_table(#ids, 0)
  for position = 1, #ids do
    local known = replies[2 * position - 1] == 1
    rows[position] = { user_id = ids[position], features = known and cast(replies[2 * position]) or null }
  end
  respond(200, encode(rows))
end

return M
