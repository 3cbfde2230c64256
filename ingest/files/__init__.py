"""Files into the store."""
