"""The clients for services that ask over HTTP: blocking and asyncio."""
