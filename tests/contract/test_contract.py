"""`schemathesis run`, all checks and all phases, against the running server (API-01, REL-01).

`CONTRACT_SEED` sets the seed of the data; without it, each run makes the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.contract.conftest import report_key
from tests.contract.report import Report
from tests.running import TOP, RunningServer

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
SECONDS = 400


class Run(NamedTuple):
    exit_status: int
    output: str
    report: Report
    server_log: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Run:
    """One run, with step-up required: then assertions count too."""
    folder = tmp_path_factory.mktemp("contract")
    answers = folder / "answers.jsonl"
    seed = os.environ.get("CONTRACT_SEED")
    with RunningServer(folder, step_up="required") as server:
        finished = subprocess.run(
            [
                Path(sys.executable).parent / "schemathesis",
                *("--config-file", CONFIGURATION, "run", "--no-color"),
                *(("--seed", seed) if seed else ()),
                f"{server.url}/openapi.json",
            ],
            cwd=TOP,
            env={
                **os.environ,
                "PYTHONPATH": str(TOP),
                "CONTRACT_FOLDER": str(folder),
                "CONTRACT_URL": server.url,
                "CONTRACT_ORIGIN": server.origin,
                "CONTRACT_ANSWERS": str(answers),
            },
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    report = request.config.stash[report_key] = Report(answers)
    return Run(finished.returncode, finished.stdout + finished.stderr, report, server.log.read_text())


def test_api_01_every_answer_keeps_the_contract(run: Run) -> None:
    assert run.exit_status == 0, run.output


def test_every_operation_works_for_somebody(run: Run) -> None:
    assert run.report.without_success() == []


def test_every_refusal_of_the_contract_was_met(run: Run) -> None:
    assert run.report.missing() == []


def test_every_situation_arose(run: Run) -> None:
    assert run.report.situations_that_did_not_arise() == []


def test_rel_01_nothing_went_wrong_on_the_way(run: Run) -> None:
    """A handler's answer that breaks the contract is a 500 too, since the server validates its own."""
    assert not re.search(r"\[(error|critical)|Traceback", run.server_log)
