-- The packed row: the field `@row` holds
--   the layout: `@` and 7 digits of a digest;
--   until|older|  only where one of the two is not empty: the time up to which the row may be served as it is; and the
--                 times of the features that are older than `@event_time`, or were removed, as
--                 time=name,name;time=name;
--   the values of its features in declared order as a msgpack array, cast when they were written.
-- A deleted entity has a `@row` that says so, and the time of its deletion as `@event_time` and as `@floor`. The latter
-- stays when the entity comes back.
local LAYOUT_BYTES, DELETED = 8, 'deleted'
-- The byte that an empty msgpack array is; an array that starts with more is not empty. What may stand before the array
-- starts with a digit or `|`.
local EMPTY_ARRAY = 144
