"""The report of the contract run, at the end of pytest's output."""

from __future__ import annotations

import pytest

from tests.contract.report import Report

report_key = pytest.StashKey[Report]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if report_key in config.stash:
        terminalreporter.section("how often each operation gave each status")
        terminalreporter.write_line(str(config.stash[report_key]))
