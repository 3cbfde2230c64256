-- What is called often: a local is quicker than a field of a global table.
local byte, find, sub = string.byte, string.find, string.sub
