"""What features are: their types and values, schema files, and what Redis holds of a schema."""
