"""Who may read and write: API keys, the files that hold them, and how much each may ask for. Knows no HTTP."""
