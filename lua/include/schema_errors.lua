local SCHEMA_CHANGED = 'SCHEMA_CHANGED the schema has another layout now: describe_entity tells it'
