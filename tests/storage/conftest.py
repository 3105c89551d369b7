"""The databases that the tests of this room run on."""

from tests.databases import operated, quick_hashes

__all__ = ["operated", "quick_hashes"]
