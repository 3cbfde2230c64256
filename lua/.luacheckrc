-- Lua as Redis embeds it. tests/lint_lua.py tells luacheck what a file includes: `make lint`.
std = 'lua51'
read_globals = { 'redis', 'cjson', 'cmsgpack', 'struct' }
max_line_length = 120
