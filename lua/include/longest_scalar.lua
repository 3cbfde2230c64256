local LONGEST_SCALAR = #'string' -- the kinds of vectors and windows are longer
