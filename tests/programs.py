"""Programs from Debian's packages that some tests call, because they are not ours and agree with the world."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest


def needs(program: str, *, package: str) -> str:
    """The path of a program. Without it the test is skipped, but where `CI` is set it fails: `.ci/run` installs it."""
    path = shutil.which(program)
    if path is None:
        message = f"{program} is missing. `apt-get install {package}` brings it."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def oathtool(secret: str, later: int = 0) -> str:
    """The code that an authenticator app shows so many seconds from now, or, below zero, showed."""
    # Its own `now` is a coarse clock, which at the turn of a step still says the one before.
    now = f"@{int(time.time()) + later}"
    command = [needs("oathtool", package="oathtool"), "--totp", "--base32", "--now", now, secret]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def read_qr_code(picture: Path) -> str:
    """What a telephone's camera reads in a picture."""
    command = [needs("zbarimg", package="zbar-tools"), "--quiet", "--raw", "--nodbus", str(picture)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
