-- Keys of entities' features are formed like the schema's: beside `user:schema` stands `user:ann:features`. So a key
-- that is not the id's own is found, and nothing is read or written there.
local SCHEMA_END, AFTER_ID = 'schema', ':features'
