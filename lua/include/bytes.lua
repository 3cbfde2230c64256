-- Bytes that words and texts may start with, as string.byte returns them.
local MINUS, QUESTION_MARK, AT_SIGN = 45, 63, 64
