-- Lua as Redis embeds it. The scripts are checked after their includes are put in place: `make lint`.
std = 'lua51'
read_globals = { 'redis', 'cjson', 'cmsgpack', 'KEYS', 'ARGV' }
max_line_length = 120
ignore = {
  '211/huge', '211/is_utf8', '211/shown', '211/parse', '211/parse_count',
  '211/read_layout', '211/read_schema', '211/layout_named', '211/row_of_layout', '211/cast_fields', '211/pack_values',
  '211/array_head', '211/read_window', '211/parse_time', -- a script need not use all of an include
}
