"""One request to each operation that needs the database, and how all of them are answered while there is none."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tests.attacks.victim import World
from tests.attacks.wire import Request, together
from tests.running import API, RunningServer

# The contract's: 503 within five seconds.
ANSWER_SECONDS = 5.0
PROBLEM = "application/problem+json"
READS = {"list", "introspect"}


class Heard(NamedTuple):
    """An answer, and after how many seconds it was there."""

    status: int
    headers: Mapping[str, str]
    body: Any
    seconds: float

    @property
    def is_refusal(self) -> bool:
        """503 as the contract has it, in time."""
        return (
            self.status == 503
            and self.headers["content-type"] == PROBLEM
            and int(self.headers["retry-after"]) > 0
            and self.body["code"] == "storage_unavailable"
            and self.seconds < ANSWER_SECONDS
        )


def ask(server: RunningServer, path: str, timeout: float = 30) -> Heard:
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = json.loads(response.read())
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Heard(response.status, headers, body, time.monotonic() - begun)


def questions(world: World) -> dict[str, Request]:
    """Each is answered with 200, and but once where it shows a code."""
    confirms = world.victim().has_backup_codes().begins_totp()
    mailed = world.victim().has_backup_codes().begins_email("135790")
    listed, asks, disables, regenerates, shows, uses = (world.victim().has_totp().has_backup_codes() for _ in range(6))
    removes = world.victim().has_key_only()
    proved = world.victim().has_key_only()
    service = world.service("mfa:verify")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    introspected = f"token={proved.assertion()}".encode()
    return {
        "list": Request("GET", API, listed.token),
        "totp/enable": world.victim().posts("totp/enable"),
        "totp/confirm": confirms.posts("totp/confirm", {"code": confirms.code()}),
        "totp/disable": disables.posts("totp/disable", {"code": disables.code()}),
        "email/enable": world.victim().posts("email/enable"),
        "email/confirm": mailed.posts("email/confirm", {"code": "135790"}),
        "webauthn/register/begin": world.victim().posts("webauthn/register/begin"),
        "webauthn/{device_id}": removes.deletes(removes.device_ids[0]),
        "backup-codes/regenerate": regenerates.posts("backup-codes/regenerate", {"code": regenerates.code()}),
        "challenge": asks.posts("challenge", {}),
        "verify": shows.verifies(shows.challenge(), shows.code()),
        "verify a backup code": uses.verifies(uses.challenge(), uses.backup_codes[0]),
        "service": Request("POST", f"/api/v1/users/{asks.caller.sub}/mfa/challenge", service, {}),
        "introspect": Request("POST", "/api/v1/mfa/introspect", world.service("mfa:introspect"), introspected, form),
    }


def answered(server: RunningServer, asked: Mapping[str, Request]) -> dict[str, Heard]:
    """Ask all at one moment, and the two questions of a load balancer beside them.

    What is not asked for by a load balancer is given the seconds of the slowest.
    """
    with ThreadPoolExecutor() as beside:
        probes = {path: beside.submit(ask, server, path) for path in ("/healthz/ready", "/healthz/live")}
        begun = time.monotonic()
        answers = together(server.ports, asked.values())
        seconds = time.monotonic() - begun
        heard = {path: probe.result() for path, probe in probes.items()}
    for name, answer in zip(asked, answers, strict=True):
        headers = {key.lower(): value for key, value in answer.headers}
        heard[name] = Heard(answer.status, headers, answer.json(), seconds)
    return heard


def check_refused(heard: dict[str, Heard], *, may_read: bool = False) -> None:
    """That all was refused as it should be; what only reads may go on where it can."""
    assert heard.pop("/healthz/live").status == 200
    if may_read:
        heard = {name: answer for name, answer in heard.items() if not (name in READS and answer.status == 200)}
    assert [name for name, answer in heard.items() if not answer.is_refusal] == []


def check_done(heard: dict[str, Heard]) -> None:
    """That nothing was spent by what was refused before: it is done now."""
    assert {name: answer.status for name, answer in heard.items()} == dict.fromkeys(heard, 200)
