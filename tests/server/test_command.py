"""The command as its user runs it: a process of its own, in an empty folder, with a clean environment."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from server.command import main
from server.settings import Settings
from tests.running import STOP_SECONDS, TOP, free_port

MARKER = "hush-marker-hush"
START_SECONDS = 20
COMMAND = (sys.executable, "-m", "server")

# An application without anything of ours, started the same way. Its answer to /slow takes a second.
TINY = """
import asyncio, os

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await asyncio.sleep(1 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.body", "body": body})

def create():
    return application

def fail():
    raise ValueError("no application")

if __name__ == "__main__":
    import sys
    from server import serving
    serving.run(serving.listen("127.0.0.1", int(sys.argv[1])), int(sys.argv[2]), "tiny:" + sys.argv[3])
"""


def environment(folder: Path, **settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("MFA_")}
    given = {f"MFA_{name}": value for name, value in settings.items()}
    return clean | {"PYTHONPATH": f"{TOP}{os.pathsep}{folder}"} | given


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command to its end, with settings by their names."""

    def to_the_end(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=environment(tmp_path, **settings),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    return to_the_end


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Runs the command in this process, where a start of Python is not worth the time."""
    for name in os.environ:
        if name.upper().startswith("MFA_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    mask = os.umask(0o077)

    def in_this_process(*arguments: str, **settings: str) -> Result:
        given = {f"MFA_{name}": value for name, value in settings.items()}
        return CliRunner().invoke(main, arguments, env=given, prog_name="mfa-server")

    yield in_this_process
    os.umask(mask)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that goes on; what is left of it at the end of the test is killed, with its children."""
    started: list[subprocess.Popen[str]] = []

    def going_on(*command: str, **settings: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(tmp_path, **settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield going_on
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def start_tiny(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Any]:
    (tmp_path / "tiny.py").write_text(TINY)

    def tiny(port: int, workers: int, create: str = "create") -> subprocess.Popen[str]:
        return start(sys.executable, str(tmp_path / "tiny.py"), str(port), str(workers), create)

    return tiny


def production(folder: Path) -> dict[str, str]:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "signing.pem").write_bytes(pem)
    return {
        "ENV": "production",
        "SECRET_KEYS": f"2026:{base64.b64encode(bytes(range(32))).decode()}",
        "SIGNING_KEY_FILE": "signing.pem",
        "JWT_ISSUER": "https://idp.example.com",
        "JWT_SECRET": MARKER * 3,
        "SMTP_URL": f"smtp://mfa:{MARKER}@127.0.0.1:{free_port()}",
        "MAIL_FROM": "mfa@example.com",
    }


def wait_until_it_answers(port: int, path: str = "/healthz/live") -> httpx.Response:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=START_SECONDS)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_help_of_serve_names_every_setting(invoke: Callable[..., Any]) -> None:
    shown = invoke("serve", "--help").stdout
    assert all(f"MFA_{name.upper()} " in shown for name in Settings.model_fields)


def test_token_prints_a_token_of_the_development_issuer_and_nothing_else(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    done = run(
        *("token", "--sub", "ALICE", "--email", "a@example.com", "--tenant", "t1"),
        *("--scope", "mfa:verify mfa:introspect", "--ttl", "60"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    (token,) = done.stdout.splitlines()
    key = load_pem_private_key((tmp_path / "mfa-data" / "jwt-key.pem").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    claims = jwt.decode(token, key.public_key(), algorithms=["ES256"], audience="mfa-server", issuer="mfa-server-dev")
    assert claims["exp"] - claims["iat"] == 60
    assert claims["jti"]
    assert {name: claims[name] for name in ("sub", "email", "tenant_id", "scope")} == {
        "sub": "ALICE",
        "email": "a@example.com",
        "tenant_id": "t1",
        "scope": "mfa:verify mfa:introspect",
    }
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "at+jwt"
    assert header["kid"]


@pytest.mark.parametrize(
    "settings",
    [{"JWT_ISSUER": "https://idp.example.com"}, {"JWT_SECRET": MARKER * 3}, {"JWT_JWKS_URL": "http://127.0.0.1:9/"}],
)
def test_token_refuses_when_another_issuer_is_configured(invoke: Callable[..., Any], settings: dict[str, str]) -> None:
    done = invoke("token", "--sub", "ALICE", **settings)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Error: Tokens come from the issuer that the MFA_JWT_ settings name. Ask it for one.\n"


def test_a_wrong_setting_stops_the_start(run: Callable[..., Any]) -> None:
    done = run("serve", STEP_UP=MARKER)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: MFA_STEP_UP must be 'off' or 'required'.\n"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("SECRET_KEYS", MARKER),
        ("JWT_SECRET", MARKER),
        ("JWT_KEY_FILE", "broken.pem"),
        ("JWT_ALGORITHMS", f"ES256,{MARKER}"),
        ("SMTP_URL", f"smtp://mfa:{MARKER}@mail.example.com"),
        ("MAIL_FROM", f"{MARKER}\n"),
    ],
)
def test_what_no_part_of_the_server_can_use_gets_one_line_that_repeats_nothing(
    invoke: Callable[..., Any], tmp_path: Path, setting: str, value: str
) -> None:
    (tmp_path / "broken.pem").write_text(MARKER)
    done = invoke("serve", **{setting: value})
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert f"MFA_{setting}" in line
    assert MARKER not in line


def test_migrate_tells_the_steps_it_took_and_check_asks_for_them(run: Callable[..., Any]) -> None:
    before = run("check")
    assert before.returncode == 1
    assert "database: The schema is not current. Run `mfa-server migrate`." in before.stdout.splitlines()
    steps = run("migrate").stdout.splitlines()
    assert steps[0] == "0001_initial"
    assert steps[-1] == "The schema is up to date."
    after = run("check", JWKS_URL=MARKER)
    assert after.stdout.splitlines() == [
        "settings: ok",
        "database: ok",
        "sealing: key development holds nothing. It seals.",
        "sealing: ok",
        "keys: ok",
        "mail: ok",
    ]
    assert after.stderr == "Warning: MFA_JWKS_URL is not a setting. Did you mean MFA_JWT_JWKS_URL?\n"
    assert after.returncode == 0


def test_check_says_of_each_part_what_is_wrong(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run(
        "check",
        DATABASE_URL=f"sqlite:///{tmp_path}/none/mfa.db",
        JWT_JWKS_URL=f"http://127.0.0.1:{free_port()}/jwks.json",
        SMTP_URL=f"smtp://mfa:{MARKER}@127.0.0.1:{free_port()}",
    )
    assert done.returncode == 1
    settings, database, keys, mail = done.stdout.splitlines()
    assert settings == "settings: ok"
    assert database.startswith("database: MFA_DATABASE_URL cannot be opened: ")
    assert keys == "keys: MFA_JWT_JWKS_URL gives no key for MFA_JWT_ALGORITHMS."
    assert mail == "mail: Mail would not be taken: ConnectionRefusedError."
    assert MARKER not in done.stderr


def test_check_tells_wrong_settings_too(invoke: Callable[..., Any]) -> None:
    done = invoke("check", STEP_UP="on", LOG_LEVEL="x")
    assert done.exit_code == 1
    assert [line.split(" must")[0] for line in done.stdout.splitlines()] == [
        "settings: MFA_STEP_UP",
        "settings: MFA_LOG_LEVEL",
    ]


def test_a_port_in_use_stops_the_start_with_one_line(run: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: Cannot listen on 127.0.0.1 port {port}: Address already in use")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_start_says_where_everything_is_and_gives_a_token_that_works(
    start: Callable[..., Any], tmp_path: Path, workers: int
) -> None:
    port = free_port()
    process = start(*COMMAND, "serve", "--port", str(port), "--workers", str(workers))
    assert wait_until_it_answers(port, "/healthz/ready").status_code == 200
    token = [process.stdout.readline() for _ in range(4)][3].split()[1]
    answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/me/mfa", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert "server" not in answer.headers
    page = httpx.options(
        f"http://127.0.0.1:{port}/api/v1/me/mfa",
        headers={"Origin": f"http://localhost:{port}", "Access-Control-Request-Method": "GET"},
    )
    assert page.headers["Access-Control-Allow-Origin"] == f"http://localhost:{port}"
    process.send_signal(signal.SIGTERM)
    rest, log = process.communicate(timeout=STOP_SECONDS)
    assert (process.returncode, rest) == (0, "")
    assert token not in log
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "mfa-data").iterdir() if path.is_file()}
    assert modes["mfa.db"] == 0o600
    assert set(modes.values()) == {0o600}


def test_on_sqlite_the_driver_of_postgresql_takes_no_memory(start: Callable[..., subprocess.Popen[str]]) -> None:
    port = free_port()
    server = start(*COMMAND, "serve", "--port", str(port))
    wait_until_it_answers(port)
    libraries = Path(f"/proc/{server.pid}/maps").read_text()
    assert "_sqlite3" in libraries
    assert "psycopg" not in libraries


@pytest.mark.parametrize("name", ["MFA_DATABASE_URL", "mfa_database_url"])
def test_on_postgresql_it_is_there_however_the_setting_is_written(tmp_path: Path, name: str) -> None:
    settings = environment(tmp_path) | {name: f" postgresql://127.0.0.1:{free_port()}/none"}
    command = [*COMMAND, "check"]
    done = subprocess.run(
        command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    assert "connection refused" in done.stdout.lower(), done.stdout + done.stderr


def test_a_log_on_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    port = free_port()
    # What a developer may have set would keep Python from gathering lines that it cannot write.
    settings = {name: value for name, value in environment(tmp_path).items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        server = subprocess.Popen(
            [*COMMAND, "serve", "--port", str(port)],
            cwd=tmp_path,
            env=settings,
            stdout=subprocess.DEVNULL,
            stderr=full,
        )
    try:
        wait_until_it_answers(port)
        assert httpx.post(f"http://127.0.0.1:{port}/api/v1/me/mfa/totp/enable").status_code == 401
    finally:
        server.terminate()
        assert server.wait(STOP_SECONDS) == 0


def test_production_prints_no_token_logs_json_and_warns_when_step_up_is_off(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    port = free_port()
    process = start(*COMMAND, "serve", "--port", str(port), **production(tmp_path))
    assert wait_until_it_answers(port).status_code == 200
    process.send_signal(signal.SIGTERM)
    shown, log = process.communicate(timeout=STOP_SECONDS)
    assert (process.returncode, shown) == (0, "")
    events = [json.loads(line) for line in log.splitlines()]
    assert [event["event"] for event in events if event["level"] == "warning"] == ["step_up.off"]
    assert MARKER not in log


@pytest.mark.parametrize("workers", [1, 2])
def test_rel_05_sigterm_lets_requests_under_way_finish(start_tiny: Callable[..., Any], workers: int) -> None:
    port = free_port()
    process = start_tiny(port, workers)
    wait_until_it_answers(port)
    idle = http.client.HTTPConnection("127.0.0.1", port)
    idle.request("GET", "/")
    idle.getresponse().read()
    answers: list[httpx.Response] = []
    slow = threading.Thread(target=lambda: answers.append(httpx.get(f"http://127.0.0.1:{port}/slow", timeout=10)))
    slow.start()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    slow.join()
    assert [answer.status_code for answer in answers] == [200]
    assert process.wait(STOP_SECONDS) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    idle.close()


def test_rel_05_workers_end_with_a_parent_that_was_killed(start_tiny: Callable[..., Any]) -> None:
    port = free_port()
    process = start_tiny(port, 2)
    worker = int(wait_until_it_answers(port).text)
    assert worker != process.pid
    process.kill()
    process.wait()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError("the port is still taken")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_application_that_cannot_be_made_ends_the_server(start_tiny: Callable[..., Any], workers: int) -> None:
    process = start_tiny(free_port(), workers, "fail")
    _, log = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 1
    assert "ValueError: no application" in log
    assert "StartFailed" in log


def test_tok_10_a_head_without_end_is_cut_off(start_tiny: Callable[..., Any]) -> None:
    port = free_port()
    start_tiny(port, 1)
    wait_until_it_answers(port)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 2**24:
                sent += connection.send(b"X-Filler: " + b"x" * 1000 + b"\r\n")
        assert sent < 2**24
    body = b"x" * 300_000
    for _ in range(2):
        answer = httpx.post(f"http://127.0.0.1:{port}/", content=body, headers={"X-Long": "x" * 60_000})
        assert answer.status_code == 200
