"""Every way to be refused, as data: the tree in the docstring, and what each error says of itself."""

from __future__ import annotations

import re

import pytest

from factors import errors
from factors.errors import InsufficientScope, InvalidCode, KeysUnavailable, Refusal, StepUpRequired, StorageUnavailable

KINDS = Refusal.__subclasses__()


def test_the_tree_at_the_top_names_every_error_with_its_status() -> None:
    drawn = re.findall(r"[├└]── (\w+) +(\d{3})", str(errors.__doc__))
    assert drawn == [(kind.__name__, str(kind.status)) for kind in KINDS]


def test_api_02_every_error_has_a_code_of_its_own_and_a_constant_title() -> None:
    assert len({kind.code for kind in KINDS}) == len({kind.title for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
        assert kind.detail.endswith(".")


def test_the_reason_is_for_the_log_and_not_for_the_caller() -> None:
    refusal = InvalidCode(reason="spent")
    assert (refusal.reason, refusal.retry_after) == ("spent", None)
    assert "spent" not in refusal.detail + str(refusal)


def test_a_detail_can_be_given_and_leaves_the_others_as_they_are() -> None:
    assert InvalidCode("Another.").detail == "Another."
    assert InvalidCode().detail == InvalidCode.detail != "Another."


@pytest.mark.parametrize(("kind", "seconds"), [(StorageUnavailable, 2), (KeysUnavailable, 10)])
def test_api_07_what_is_unavailable_says_when_to_come_again(
    kind: type[StorageUnavailable | KeysUnavailable], seconds: int
) -> None:
    assert kind().retry_after == seconds
    assert kind(retry_after=7, reason="slow").retry_after == 7


def test_errors_that_ask_for_something_say_what() -> None:
    assert InsufficientScope("mfa:verify").scope == "mfa:verify"
    asked = StepUpRequired(acr_values=("phr",), max_age=300, reason="too weak")
    assert (asked.acr_values, asked.max_age, asked.reason) == (("phr",), 300, "too weak")
