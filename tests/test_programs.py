"""Tests that need a program of Debian's say which package brings it."""

from __future__ import annotations

import pytest

from tests.programs import needs

MISSING = "no-such-program is missing. `apt-get install no-such-package` brings it."


def test_without_a_program_a_test_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=MISSING):
        needs("no-such-program", package="no-such-package")


def test_in_ci_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=MISSING):
        needs("no-such-program", package="no-such-package")
