"""Keys behind a JWKS URL: an identity provider that rotates, hangs, lies, or is gone. It is a real HTTP server."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from factors.errors import InvalidToken, KeysUnavailable
from server.jwks import COOL_DOWN, FRESH_FOR, GRACE, UNREACHABLE_FOR, RemoteKeys
from server.tokens import Verifier

ISSUER, AUDIENCE = "https://idp.example.com/", "mfa-server"
OLD = ec.generate_private_key(ec.SECP256R1())
NEW = ec.generate_private_key(ec.SECP256R1())
ATTACKER = ec.generate_private_key(ec.SECP256R1())


def jwk(key: ec.EllipticCurvePrivateKey, **members: Any) -> dict[str, Any]:
    return {**jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key(), as_dict=True), **members}


def sign(key: ec.EllipticCurvePrivateKey, kid: str | None, **header: Any) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 600}
    return jwt.encode(claims, key, "ES256", headers={"kid": kid, **header} if kid else header)


class Request(BaseHTTPRequestHandler):
    """One request at the identity provider, which answers as the test has told it to."""

    server: IdentityProvider

    def do_GET(self) -> None:
        self.server.fetches += 1
        try:
            self.server.answer(self)
        except ConnectionError:
            self.close_connection = True  # The server under test has hung up, as it should on some of these answers.

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class IdentityProvider(ThreadingHTTPServer):
    """Publishes keys on a port of the loopback interface and counts who asks."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.url = f"http://127.0.0.1:{self.server_port}/jwks.json"
        self.fetches = 0
        self.stopping = threading.Event()
        self.answer: Callable[[Request], None] = unavailable

    def publish(self, *keys: Any) -> None:
        document = json.dumps({"keys": keys}).encode()
        self.answer = lambda request: request.send(200, document, Content_Type="application/jwk-set+json")


def unavailable(request: Request) -> None:
    request.send(503, b"")


def hang_up(request: Request) -> None:
    request.close_connection = True


def hang(request: Request) -> None:
    request.server.stopping.wait(10)
    request.close_connection = True


def drip(request: Request) -> None:
    """A byte every quarter of a second: no single read ever times out."""
    request.send_response(200)
    request.end_headers()
    while not request.server.stopping.wait(0.25):
        request.wfile.write(b" ")
    request.close_connection = True


def drip_headers(request: Request) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not request.server.stopping.wait(0.25):
        request.wfile.write(b"x")
    request.close_connection = True


def serve() -> Iterator[IdentityProvider]:
    with IdentityProvider() as provider:
        thread = threading.Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield provider
        provider.stopping.set()
        provider.shutdown()
        thread.join()


idp = pytest.fixture(serve, name="idp")
other = pytest.fixture(serve, name="other")


class World:
    """A verifier with its remote keys, at a time that the test moves."""

    def __init__(self, idp: IdentityProvider) -> None:
        self.idp = idp
        self.now = 1000.0
        self.keys = RemoteKeys(idp.url, ("ES256",), clock=lambda: self.now)
        self.verifier = Verifier(
            issuer=ISSUER,
            audience=AUDIENCE,
            algorithms=("ES256",),
            tenant_claim="tenant_id",
            require_at_jwt=False,
            keys=self.keys,
        )

    async def outcome(self, token: str) -> str | None:
        """What becomes of a token: "accepted", "unavailable", or the reason of its refusal."""
        try:
            await self.verifier.verify(token)
        except KeysUnavailable:
            return "unavailable"
        except InvalidToken as error:
            return error.reason
        return "accepted"

    async def settle(self) -> None:
        """Let a fetch that goes on by itself come to its end."""
        if self.keys._fetch is not None:
            await self.keys._fetch


@pytest.fixture
def world(idp: IdentityProvider) -> World:
    return World(idp)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario()

    asyncio.run(run())


# TOK-02: keys come from the configured URL only


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example.com/jwks",
        "http://localhost.example.com/jwks",
        "http://127.0.0.1.example.com/jwks",
        "http://127.0.0.1@example.com/jwks",
        "http://10.0.0.1/jwks",
        "http://0.0.0.0/jwks",
        "file:///etc/passwd",
        "ftp://idp.example.com/jwks",
        "https:///jwks",
        "//idp.example.com/jwks",
        "idp.example.com/jwks",
        "https://[::1",
        "",
    ],
)
def test_tok_02_keys_are_not_fetched_in_the_clear(url: str) -> None:
    with pytest.raises(ValueError, match="JWKS URL"):
        RemoteKeys(url, ("ES256",))


@pytest.mark.parametrize(
    "url", ["https://idp.example.com/jwks", "http://localhost:8080/jwks", "http://127.0.0.1/jwks", "http://[::1]/jwks"]
)
def test_tok_02_https_and_plain_http_of_the_same_machine_are_taken(url: str) -> None:
    RemoteKeys(url, ("ES256",))


def test_tok_02_keys_that_a_token_brings_or_points_to_are_never_used(world: World, other: IdentityProvider) -> None:
    world.idp.publish(jwk(OLD, kid="old"))
    other.publish(jwk(ATTACKER, kid="evil"), jwk(ATTACKER, kid="old"))
    bait = {"jku": other.url, "x5u": other.url, "jwk": jwk(ATTACKER, kid="evil"), "x5c": ["AAAA"], "x5t": "AAAA"}

    async def scenario() -> None:
        assert await world.outcome(sign(ATTACKER, "evil", **bait)) == "key"
        assert await world.outcome(sign(ATTACKER, "old", **bait)) == "signature"
        assert await world.outcome(sign(ATTACKER, None, **bait)) == "signature"
        assert await world.outcome(sign(OLD, "old", **bait)) == "accepted"

    play(scenario)
    assert other.fetches == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_tok_02_redirects_are_not_followed(world: World, other: IdentityProvider, status: int) -> None:
    other.publish(jwk(ATTACKER, kid="evil"))
    world.idp.answer = lambda request: request.send(status, b"", Location=other.url)

    async def scenario() -> None:
        assert await world.outcome(sign(ATTACKER, "evil")) == "unavailable"

    play(scenario)
    assert (world.idp.fetches, other.fetches) == (1, 0)


def test_tok_02_a_proxy_of_the_environment_does_not_see_the_way_to_the_same_machine(
    world: World, other: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other.url.removesuffix("/jwks.json"))
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        assert await world.outcome(sign(OLD, "old")) == "accepted"

    play(scenario)
    assert other.fetches == 0


def certify(folder: Path) -> Path:
    """The PEM of a key and of a certificate for 127.0.0.1 that only vouches for itself."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "idp.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return file


def test_tok_02_an_identity_provider_that_cannot_prove_its_name_is_not_believed(
    idp: IdentityProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certify(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    idp.socket = tls.wrap_socket(idp.socket, server_side=True, do_handshake_on_connect=False)
    idp.url = idp.url.replace("http:", "https:")
    idp.publish(jwk(OLD, kid="old"))
    stranger = World(idp)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    acquainted = World(idp)

    async def scenario() -> None:
        assert await stranger.outcome(sign(OLD, "old")) == "unavailable"
        assert idp.fetches == 0
        assert await acquainted.outcome(sign(OLD, "old")) == "accepted"

    play(scenario)


# TOK-07: who asks, and how often


def test_tok_07_concurrent_requests_share_one_fetch(world: World) -> None:
    def slowly(request: Request) -> None:
        time.sleep(0.1)
        request.send(200, json.dumps({"keys": [jwk(OLD, kid="old")]}).encode())

    world.idp.answer = slowly

    async def scenario() -> None:
        token = sign(OLD, "old")
        assert set(await asyncio.gather(*(world.outcome(token) for _ in range(50)))) == {"accepted"}

    play(scenario)
    assert world.idp.fetches == 1


def test_tok_07_unknown_keys_ask_once_in_ten_seconds_for_the_whole_process(world: World) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        assert await world.outcome(sign(OLD, "old")) == "accepted"
        for fetches in (1, 2, 3):
            flood = [sign(ATTACKER, f"unknown-{fetches}-{number}") for number in range(20)]
            assert set(await asyncio.gather(*map(world.outcome, flood))) == {"key"}
            assert [await world.outcome(token) for token in flood] == ["key"] * 20
            assert world.idp.fetches == fetches
            world.now += COOL_DOWN - 0.1
            assert await world.outcome(flood[0]) == "key"
            assert world.idp.fetches == fetches
            world.now += 0.1

    play(scenario)


@pytest.mark.parametrize("failure", [unavailable, hang_up])
def test_tok_07_failures_are_remembered(world: World, failure: Callable[[Request], None]) -> None:
    world.idp.answer = failure

    async def scenario() -> None:
        token = sign(OLD, "old")
        for fetches in (1, 2):
            assert set(await asyncio.gather(*(world.outcome(token) for _ in range(20)))) == {"unavailable"}
            world.now += COOL_DOWN - 0.1
            assert await world.outcome(token) == "unavailable"
            assert world.idp.fetches == fetches
            world.now += 0.1
        world.idp.publish(jwk(OLD, kid="old"))
        assert await world.outcome(token) == "accepted"

    play(scenario)


def test_tok_07_a_caller_that_goes_away_does_not_end_the_fetch_of_the_others(world: World) -> None:
    def slowly(request: Request) -> None:
        time.sleep(0.2)
        request.send(200, json.dumps({"keys": [jwk(OLD, kid="old")]}).encode())

    world.idp.answer = slowly

    async def scenario() -> None:
        token = sign(OLD, "old")
        first = asyncio.create_task(world.outcome(token))
        second = asyncio.create_task(world.outcome(token))
        await asyncio.sleep(0.05)
        first.cancel()
        assert await second == "accepted"
        assert first.cancelled()

    play(scenario)
    assert world.idp.fetches == 1


def test_tok_07_garbage_never_makes_the_server_ask(world: World) -> None:
    async def scenario() -> None:
        for token in ("", "a.b.c", sign(OLD, "old", typ="mfa+jwt"), sign(OLD, "old", crit=["x"], x=1)):
            assert await world.outcome(token) not in {"accepted", "unavailable"}

    play(scenario)
    assert world.idp.fetches == 0


# TOK-08: rotation


def test_tok_08_a_new_key_verifies_at_once(world: World) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        assert await world.outcome(sign(OLD, "old")) == "accepted"
        world.idp.publish(jwk(OLD, kid="old"), jwk(NEW, kid="new"))
        world.now += COOL_DOWN
        assert await world.outcome(sign(NEW, "new")) == "accepted"
        assert await world.outcome(sign(OLD, "old")) == "accepted"

    play(scenario)


@pytest.mark.parametrize(
    "published", [[jwk(NEW, kid="new")], [jwk(NEW, kid="old")], [], [jwk(OLD, kid="old", use="enc")]]
)
def test_tok_08_a_removed_key_verifies_nothing_after_five_minutes(world: World, published: list[Any]) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        known, unseen = sign(OLD, "old"), sign(OLD, "old", typ="at+jwt")
        assert await world.outcome(known) == "accepted"
        world.idp.publish(*published)
        world.now += FRESH_FOR - 0.1
        assert await world.outcome(known) == "accepted"
        assert world.idp.fetches == 1
        world.now += 0.1
        assert await world.outcome(known) in {"key", "signature"}
        assert await world.outcome(unseen) in {"key", "signature"}
        assert world.idp.fetches == 2

    play(scenario)


def test_tok_08_a_removed_key_dies_at_once_when_another_token_brings_the_news(world: World) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        token = sign(OLD, "old")
        assert await world.outcome(token) == "accepted"
        world.idp.publish(jwk(NEW, kid="new"))
        world.now += COOL_DOWN
        assert await world.outcome(sign(NEW, "new")) == "accepted"
        assert await world.outcome(token) == "key"

    play(scenario)


def test_tok_08_a_set_that_has_not_changed_keeps_what_is_remembered(world: World) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        before = await world.keys.current()
        world.now += FRESH_FOR
        assert await world.keys.current() is before
        assert world.idp.fetches == 2
        world.idp.publish(jwk(OLD, kid="renamed"))
        world.now += FRESH_FOR
        assert await world.keys.current() is not before

    play(scenario)


def test_a_token_without_a_key_name_verifies_when_one_key_fits(world: World) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        assert await world.outcome(sign(OLD, None)) == "accepted"
        world.idp.publish(jwk(OLD, kid="old"), jwk(NEW, kid="new"))
        world.now += FRESH_FOR
        assert await world.outcome(sign(OLD, None)) == "key"

    play(scenario)


# TOK-09: the identity provider's outage


@pytest.mark.parametrize("failure", [unavailable, hang_up])
def test_tok_09_the_last_good_keys_serve_for_an_hour(world: World, failure: Callable[[Request], None]) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        start, known = world.now, sign(OLD, "old")
        assert await world.outcome(known) == "accepted"
        world.idp.answer = failure
        for age in (FRESH_FOR, FRESH_FOR + 1, FRESH_FOR + COOL_DOWN, GRACE / 2, GRACE - 0.1):
            world.now = start + age
            assert await world.outcome(known) == "accepted"
            assert await world.outcome(sign(OLD, "old", typ="at+jwt")) == "accepted"
            assert await world.keys.ready()
            await world.settle()
        assert world.idp.fetches == 5  # One for the keys, and four tries that failed.
        world.now = start + GRACE
        assert await world.outcome(known) == "unavailable"
        assert not await world.keys.ready()
        world.idp.publish(jwk(OLD, kid="old"))
        world.now += COOL_DOWN
        assert await world.outcome(known) == "accepted"
        assert await world.keys.ready()

    play(scenario)


def test_tok_09_in_a_known_outage_no_request_waits(world: World) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        token = sign(OLD, "old")
        assert await world.outcome(token) == "accepted"
        world.idp.answer = unavailable
        world.now += FRESH_FOR
        assert await world.outcome(token) == "accepted"
        world.idp.answer = hang
        world.now += COOL_DOWN
        started = time.monotonic()
        assert await world.outcome(token) == "accepted"
        assert time.monotonic() - started < 0.5
        await asyncio.sleep(0.1)
        assert world.idp.fetches == 3

    play(scenario)


def test_tok_09_the_end_of_an_outage_is_noticed_by_the_requests_themselves(world: World) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        token = sign(OLD, "old")
        assert await world.outcome(token) == "accepted"
        world.idp.answer = unavailable
        world.now += FRESH_FOR
        assert await world.outcome(token) == "accepted"
        world.idp.publish(jwk(NEW, kid="new"))
        world.now += COOL_DOWN
        assert await world.outcome(token) == "accepted"
        await world.settle()
        assert await world.outcome(token) == "key"

    play(scenario)


def test_tok_08_an_outage_long_ago_does_not_keep_a_removed_key_alive(world: World) -> None:
    """Nobody has asked since the last failure: the first request waits for the answer instead of trusting old keys."""
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        token = sign(OLD, "old")
        assert await world.outcome(token) == "accepted"
        world.idp.answer = unavailable
        world.now += FRESH_FOR
        assert await world.outcome(token) == "accepted"
        world.idp.publish(jwk(NEW, kid="new"))
        world.now += UNREACHABLE_FOR
        assert await world.outcome(token) == "key"

    play(scenario)


def test_tok_09_a_key_that_could_not_be_fetched_makes_no_token_invalid(world: World) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        assert await world.outcome(sign(OLD, "old")) == "accepted"
        world.idp.answer = unavailable
        world.now += COOL_DOWN
        assert await world.outcome(sign(NEW, "new")) == "unavailable"
        assert await world.outcome(sign(NEW, "new")) == "unavailable"
        assert world.idp.fetches == 2
        assert await world.outcome(sign(OLD, "old")) == "accepted"

    play(scenario)


def test_tok_09_cold_and_unreachable_is_503_with_a_time_to_come_back() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"

    async def scenario() -> None:
        now = 0.0
        keys = RemoteKeys(url, ("ES256",), clock=lambda: now)
        for now, seconds in ((0.0, 10), (6.5, 4), (9.9, 1), (10.0, 10)):  # noqa: B007 - the clock reads it
            with pytest.raises(KeysUnavailable) as refused:
                await keys.current()
            assert refused.value.retry_after == seconds
            assert refused.value.status == 503
        assert not await keys.ready()

    play(scenario)


def test_tok_09_an_identity_provider_that_hangs_or_drips_costs_three_seconds_once() -> None:
    """The three of them at once, because each takes its three seconds of real time."""
    providers = [serve(), serve(), serve()]
    worlds = [World(next(provider)) for provider in providers]
    for world, answer in zip(worlds, (hang, drip, drip_headers), strict=True):
        world.idp.answer = answer

    async def timed(world: World) -> tuple[str | None, float]:
        started = time.monotonic()
        return await world.outcome(sign(OLD, "old")), time.monotonic() - started

    async def scenario() -> None:
        for outcome, seconds in await asyncio.gather(*map(timed, worlds)):
            assert outcome == "unavailable"
            assert 2.5 < seconds < 4
        for outcome, seconds in await asyncio.gather(*map(timed, worlds)):
            assert outcome == "unavailable"
            assert seconds < 0.5

    play(scenario)
    for world, provider in zip(worlds, providers, strict=True):
        assert world.idp.fetches == 1
        assert next(provider, None) is None


def answer_with(body: bytes, status: int = 200, **headers: str) -> Callable[[Request], None]:
    return lambda request: request.send(status, body, **headers)


def stream_without_end(request: Request) -> None:
    request.send_response(200)
    request.end_headers()
    while not request.server.stopping.is_set():
        request.wfile.write(b" " * 65536)


GOOD = json.dumps({"keys": [jwk(OLD, kid="old")]}).encode()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(answer_with(GOOD, 404), id="not found"),
        pytest.param(answer_with(GOOD, 203), id="another success"),
        pytest.param(answer_with(b"<html>sign in</html>"), id="HTML"),
        pytest.param(answer_with(b""), id="empty"),
        pytest.param(answer_with(b"{}"), id="no set"),
        pytest.param(answer_with(b"\xff\xff"), id="not UTF-8"),
        pytest.param(answer_with(b"[" * 200_000), id="nested deep"),
        pytest.param(answer_with(GOOD + b" " * 256 * 1024), id="over 256 KiB"),
        pytest.param(stream_without_end, id="without end"),
        pytest.param(answer_with(gzip.compress(GOOD), Content_Encoding="gzip"), id="compressed"),
        pytest.param(answer_with(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"), id="gzip bomb"),
        pytest.param(answer_with(GOOD, Content_Length="100000"), id="cut off"),
        pytest.param(lambda request: request.wfile.write(b"SSH-2.0-OpenSSH\r\n"), id="another protocol"),
        pytest.param(
            lambda request: request.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 300_000), id="headers"
        ),
    ],
)
def test_tok_09_an_answer_that_is_no_key_set_is_a_failure(world: World, answer: Callable[[Request], None]) -> None:
    world.idp.answer = answer

    async def scenario() -> None:
        started = time.monotonic()
        assert await world.outcome(sign(OLD, "old")) == "unavailable"
        assert await world.outcome(sign(OLD, "old")) == "unavailable"
        assert time.monotonic() - started < 2
        world.idp.answer = answer_with(GOOD)
        world.now += COOL_DOWN
        assert await world.outcome(sign(OLD, "old")) == "accepted"

    play(scenario)
    assert world.idp.fetches == 2


def test_a_bad_answer_leaves_the_good_keys_in_place(world: World) -> None:
    world.idp.publish(jwk(OLD, kid="old"))

    async def scenario() -> None:
        assert await world.outcome(sign(OLD, "old")) == "accepted"
        world.idp.answer = answer_with(b"<html>")
        world.now += FRESH_FOR
        assert await world.outcome(sign(OLD, "old")) == "accepted"

    play(scenario)


def test_a_set_without_usable_keys_is_an_answer_but_not_ready(world: World) -> None:
    world.idp.publish()

    async def scenario() -> None:
        assert await world.outcome(sign(OLD, "old")) == "key"
        assert not await world.keys.ready()

    play(scenario)
