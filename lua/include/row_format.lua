-- The packed row: the field `@row` holds
--   the layout: `@` and 7 digits of a digest;
--   until|older|  only where one of the two is not empty: the time up to which the row may be served as it is; and the
--                 times of the features that are older than `@event_time`, or were removed, as
--                 time=name,name;time=name;
--   the values of its features in declared order as a msgpack array, cast when they were written.
-- A deleted entity has a `@row` that says so, and the time of its deletion as `@event_time` and as `@floor`. The latter
-- stays when the entity comes back.
local LAYOUT_BYTES, DELETED = 8, 'deleted'
-- What a msgpack array starts with, as a pattern: 144 and the number of its elements up to 15, or 220. A row without
-- features is not handed on as it is stored. What may stand before the array starts with a digit or `|`.
local ARRAY = '^[\145-\159\220]'
