"""What the README says is true: its tour is executed, and its tables are held against what they describe."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from server import settings
from server.command import main
from tests.programs import needs, serving
from tests.running import TOP, RunningServer, free_port

README = (TOP / "README.md").read_text()
BLOCK = re.compile(r"^```sh(?P<where> in-another-terminal)?\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER_PORT, APP_PORT = "8080", "8000"
TOUR_SECONDS = 60


def section(title: str) -> str:
    """What stands under a heading, with all that is below it."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def make_environment(folder: Path) -> None:
    """What the README's first command leaves behind: the programs in `.venv/bin`, without installing them again."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, module in (("mfa-server", "server"), ("uvicorn", "uvicorn")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nPYTHONPATH={TOP} exec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    (folder / "examples").symlink_to(TOP / "examples")


def test_the_tour_works_as_written(tmp_path: Path) -> None:
    needs("oathtool", package="oathtool")
    needs("curl", package="curl")
    blocks = list(BLOCK.finditer(section("A tour in five minutes")))
    here = "\n".join(block["commands"] for block in blocks if not block["where"])
    [there] = [block["commands"].splitlines() for block in blocks if block["where"]]
    make_environment(tmp_path)
    with RunningServer(tmp_path) as server:
        ports = {SERVER_PORT: str(server.port), APP_PORT: str(free_port())}

        def at_these_ports(text: str) -> str:
            return re.sub(rf"\b({SERVER_PORT}|{APP_PORT})\b", lambda port: ports[port[0]], text)

        installs, starts = there
        assert installs == ".venv/bin/pip install -c constraints.txt fastapi"
        app = serving(shlex.split(at_these_ports(starts)), int(ports[APP_PORT]), tmp_path, MFA_PUBLIC_URL=server.origin)
        with app:
            tour = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", at_these_ports(here)],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=TOUR_SECONDS,
            )
    assert tour.returncode == 0, tour.stdout + tour.stderr
    assert tour.stderr == ""
    seen = [
        '{"mfa_enabled":false',
        "data:image/png;base64,",
        '{"type":"totp","enabled":true',
        '{"email":"a•••@example.com"',
        '{"type":"email","enabled":true',
        '"pubKeyCredParams"',
        '{"mfa_enabled":true',
        '"sub":"alice"',
        "HTTP/1.1 401",
        "Nobody but alice sees this.",
        '{"active":true',
        '{"backup_codes":[',
        '{"active":false}',
    ]
    at = 0
    for each in seen:
        at = tour.stdout.find(each, at)
        assert at >= 0, f"{each} was not seen in its turn in:\n{tour.stdout}"


def test_every_setting_is_in_its_table() -> None:
    rows = [f"| `{name}` | {text} |" for name, text in settings.table()]
    table = "\n".join(["| setting | what it is for |", "|---|---|", *rows])
    assert f"\n{table}\n" in section("Settings"), f"The table should be\n\n{table}"


def test_what_production_must_be_given_is_in_its_list() -> None:
    [block] = re.findall(r"^ +```\n(.*?)^ +```$", section("With your identity provider"), re.MULTILINE | re.DOTALL)
    listed = set(re.findall(r"^ +(MFA_[A-Z_]+)=", block, re.MULTILINE))
    assert listed <= {name for name, _ in settings.table()}
    # The keys of access tokens come from a URL, which is one of three ways.
    needed = {f"MFA_{name.upper()}" for name in settings.NEEDED} - {"MFA_JWT_KEY_FILE"} | {"MFA_JWT_JWKS_URL"}
    assert needed <= listed


def test_every_operation_is_in_its_table() -> None:
    contract = yaml.safe_load((TOP / "openapi.yaml").read_text())
    operations = {f"{method.upper()} {path}" for path, methods in contract["paths"].items() for method in methods}
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]+)` \|", README, re.MULTILINE)) == operations


def test_every_command_is_in_its_table() -> None:
    named = re.findall(r"^\| `mfa-server ([^`]+)` \|(.*)\|$", section("Commands"), re.MULTILINE)
    assert {name for name, _ in named} == set(main.commands)
    for name, text in named:
        options = {option for each in main.commands[name].params for option in each.opts}
        assert set(re.findall(r"`(--[a-z-]+)`", text)) <= options


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md"])
def test_every_file_that_is_linked_to_is_there(document: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (TOP / document).read_text())
    missing = [link for link in links if "://" not in link and not (TOP / link).exists()]
    assert not missing
