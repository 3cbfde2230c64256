"""Everything that writes rows into the store."""
