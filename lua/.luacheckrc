-- Lua as Redis embeds it. The scripts are checked after their includes are put in place: `make lint`.
std = 'lua51'
read_globals = { 'redis', 'cjson', 'cmsgpack', 'KEYS', 'ARGV' }
max_line_length = 120
ignore = {
  '211/huge', '211/is_utf8', '211/shown', '211/parse', '211/parse_count', -- a script need not use all of an include
}
