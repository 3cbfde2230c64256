-- The option that bounds how many values a call makes, as a pattern, and the largest number that it takes.
local MOST, MOST_VALUES = '^%?most=([1-9]%d*)$', 1000000
