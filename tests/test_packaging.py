"""The wheel, which is what `pip install .` installs, is all that the server needs."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import yaml

from tests.running import TOP, RunningServer

MAIL_SECONDS = 20


def test_the_wheel_alone_serves_from_an_empty_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=TOP, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    assert {path.name for path in (tmp_path / "installed").iterdir() if not path.name.endswith(".dist-info")} == {
        "factors",
        "handlers",
        "server",
        "storage",
    }
    empty = tmp_path / "empty"
    empty.mkdir()
    server = RunningServer(empty)
    server.environment["PYTHONPATH"] = str(tmp_path / "installed")
    with server:
        served = httpx.get(f"{server.url}/openapi.json").json()
        assert served["paths"].keys() == yaml.safe_load((TOP / "openapi.yaml").read_text())["paths"].keys()
        assert httpx.get(f"{server.url}/docs/").is_success
        with server.client("alice") as alice:
            assert alice.post("/api/v1/me/mfa/email/enable").is_success
        deadline = time.monotonic() + MAIL_SECONDS
        while not list((server.data / "outbox").glob("*.eml")):
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.05)
