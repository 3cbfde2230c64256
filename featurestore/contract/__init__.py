"""What the scripts take and give: calls and replies, and the rows in them. Nothing here does I/O."""
