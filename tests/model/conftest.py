"""How long the stories go on."""

from __future__ import annotations

from tests.databases import quick_hashes

__all__ = ["quick_hashes"]
