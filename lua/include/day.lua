local DAY = 86400000 -- in ms
