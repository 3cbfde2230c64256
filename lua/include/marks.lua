-- What stands in a value's place: FORGET removes the feature, LEAVE keeps what is stored. No value of any type is one
-- byte that is not UTF-8.
local FORGET, LEAVE = '\255', '\254'
