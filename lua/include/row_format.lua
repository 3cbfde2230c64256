-- The packed row: the field `@row` holds
--   the layout's digest, 8 bytes;
--   until|floor|older|  only where one of the three is not empty: the time up to which the row may be served as it is;
--                       the time of the entity's deletion, before it came back; and the times of the features that are
--                       older than `@event_time`, or were removed, as time=name,name;time=name;
--   the values of its features in declared order as a msgpack array, cast when they were written.
-- A deleted entity has a `@row` that says so, and the time of its deletion as `@event_time`.
local LAYOUT_BYTES, DELETED = 8, 'deleted'
-- The least byte that a msgpack array starts with. What may stand before the array starts with a digit or `|`.
local LEAST_ARRAY = 144
