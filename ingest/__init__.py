"""Everything that writes rows into the store."""

from .writer import BulkProgress, BulkWriter

__all__ = ["BulkProgress", "BulkWriter"]
