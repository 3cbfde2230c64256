-- Keys of entities' features are formed like the schema's: beside `user:schema` stands `user:ann:features`. So a key
-- that is not the id's own is found, and nothing is read or written there.
local AFTER_PREFIX, AFTER_ID = 'schema', ':features'
