"""What a store does, as plans without I/O, and the stores that drive them: blocking and asyncio."""
