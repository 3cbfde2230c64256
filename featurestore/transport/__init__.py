"""How calls reach Redis: the interface, and a transport each for threads, for greenlets and for asyncio."""
