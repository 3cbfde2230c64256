-- Bytes that words may start with, as string.byte returns them.
local QUESTION_MARK, AT_SIGN = 63, 64
