"""Any story of users and their factors, on both databases, is one that the model could have told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import MOST_AT_ONCE, Stories

settings.register_profile("model", max_examples=2_000, stateful_step_count=50)
BRIEFLY = settings(max_examples=150, stateful_step_count=30, phases=[Phase.generate])

pytestmark = pytest.mark.usefixtures("quick_hashes", "database")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        yield threads


def test_every_story_is_one_that_the_model_could_have_told(threads: ThreadPoolExecutor) -> None:
    name = settings.get_current_profile_name()
    tally: Counter[tuple[str, str]] = Counter()
    run_state_machine_as_test(
        lambda: Stories(threads, tally),
        settings=settings(
            settings.get_profile(name) if name == "model" else BRIEFLY,
            database=None,
            deadline=None,
            derandomize=False,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    for (what, answer), count in sorted(tally.items()):
        print(f"{count:8} {what} {answer}")
