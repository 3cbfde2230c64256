local NOSCHEMA = 'NOSCHEMA no schema is stored: featurestore apply FILE declares features'
local SCHEMA_CHANGED = 'SCHEMA_CHANGED the schema has another layout now: read it again'
