"""Files in and out of the store, as streams of any length."""
