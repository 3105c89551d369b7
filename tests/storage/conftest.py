"""The databases that the tests of this room run on."""

from tests.databases import operated, postgresql, quick_hashes

__all__ = ["operated", "postgresql", "quick_hashes"]
