"""The cheap hashes, and for how long stories are told: `--hypothesis-profile=model` takes its time."""

from __future__ import annotations

from hypothesis import settings

from tests.databases import quick_hashes

__all__ = ["LONG", "quick_hashes"]

LONG = "model"
settings.register_profile(LONG, max_examples=2_000, stateful_step_count=50)
