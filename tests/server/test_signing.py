"""The keys that sign assertions are replaced while the server runs, and no assertion is refused for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from server import signing
from server.signing import LOOK_AGAIN_SECONDS, SigningKeys
from tests.authenticator import Authenticator
from tests.running import API, RunningServer

SEEN_WITHIN = 3 * LOOK_AGAIN_SECONDS


def pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> bytes:
    key = private or ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write(file: Path, *keys: bytes) -> None:
    """At once, as an operator's tool does: nobody reads half a file."""
    new = file.with_suffix(".new")
    new.write_bytes(b"".join(keys))
    os.replace(new, file)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "signing-key.pem"


def kids(keys: SigningKeys) -> list[str]:
    return [key.kid for key in keys()]


def test_the_first_key_signs_and_all_are_kept_in_their_order(file: Path) -> None:
    first, second = pem(), pem()
    write(file, first, second)
    both = kids(SigningKeys(file))
    write(file, second, first)
    assert kids(SigningKeys(file)) == both[::-1]


def test_another_file_is_seen_after_a_few_seconds_and_not_before(file: Path) -> None:
    write(file, pem())
    clock = Clock()
    keys = SigningKeys(file, clock)
    before = kids(keys)
    write(file, pem())
    assert kids(keys) == before
    clock.now += LOOK_AGAIN_SECONDS
    assert kids(keys) != before


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: write(file, b"no key"), lambda file: write(file, b"")])
def test_a_file_that_is_gone_or_spoilt_changes_nothing(file: Path, spoil: Callable[[Path], None]) -> None:
    write(file, pem())
    clock = Clock()
    keys = SigningKeys(file, clock)
    before = kids(keys)
    spoil(file)
    clock.now += LOOK_AGAIN_SECONDS
    assert kids(keys) == before


@pytest.mark.parametrize(
    "content",
    [b"", b"no key", pem(ec.generate_private_key(ec.SECP384R1())), pem(rsa.generate_private_key(65537, 2048))],
    ids=["empty", "no key", "P-384", "RSA"],
)
def test_what_is_no_p_256_private_key_is_refused_at_first(file: Path, content: bytes) -> None:
    write(file, content)
    with pytest.raises(ValueError, match="key"):
        signing.read(file)


class App:
    """Verifies a user again and again with a security key, and holds each assertion against what the server serves."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.key = Authenticator()
        self.user = server.client()
        self.backend = server.client("backend", scope="mfa:introspect")
        begun = self.post("/webauthn/register/begin")
        answer = self.key.register(begun["options"], origin=server.origin)
        self.post(
            "/webauthn/register/complete", **{n: begun[n] for n in ("device_id", "challenge_id")}, credential=answer
        )

    def close(self) -> None:
        self.user.close()
        self.backend.close()

    def post(self, path: str, **body: Any) -> Any:
        answer = self.user.post(f"{API}{path}", json=body or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def assertion(self) -> str:
        asked = self.post("/challenge", method="webauthn")
        answer = self.key.authenticate(asked["options"], origin=self.server.origin)
        verified = self.post("/verify", challenge_id=asked["challenge_id"], credential=answer)
        return str(verified["assertion"])

    def check(self, assertion: str) -> str:
        """By the published keys, and by introspection. Returns the name of the key."""
        kid = str(jwt.get_unverified_header(assertion)["kid"])
        published = {key["kid"]: jwt.PyJWK(key) for key in self.jwks()}
        jwt.decode(assertion, published[kid], ["ES256"], audience="mfa-server")
        answer = self.backend.post("/api/v1/mfa/introspect", data={"token": assertion})
        assert answer.json()["active"], answer.text
        return kid

    def jwks(self) -> list[dict[str, str]]:
        keys: list[dict[str, str]] = httpx.get(f"{self.server.url}/.well-known/jwks.json").json()["keys"]
        return keys

    def wait_for(self, served: list[str]) -> None:
        """Until all workers, which share the load, serve these keys."""
        deadline = time.monotonic() + SEEN_WITHIN
        while time.monotonic() < deadline:
            if all([key["kid"] for key in self.jwks()] == served for _ in range(20)):
                return
            time.sleep(0.2)
        raise AssertionError("the keys were not seen in time")


def test_keys_are_replaced_under_load_and_no_live_assertion_is_refused(tmp_path: Path) -> None:
    old, new = pem(), pem()
    file = tmp_path / "keys.pem"
    write(file, old)
    with ExitStack() as stack:
        server = stack.enter_context(RunningServer(tmp_path, workers=2, signing_key_file=str(file)))
        app, over = App(server), threading.Event()
        stack.callback(app.close)
        assertions: list[str] = []
        failed: list[BaseException] = []

        def verify_again_and_again() -> None:
            try:
                while not over.is_set():
                    assertions.append(app.assertion())
                    for assertion in (assertions[0], assertions[-1]):
                        app.check(assertion)
            except BaseException as error:
                failed.append(error)

        load = threading.Thread(target=verify_again_and_again)
        load.start()
        try:
            [old_kid] = [key["kid"] for key in app.jwks()]
            write(file, old, new)
            [new_kid] = [key.kid for key in signing.read(file) if key.kid != old_kid]
            app.wait_for([old_kid, new_kid])
            write(file, new, old)
            app.wait_for([new_kid, old_kid])
        finally:
            over.set()
            load.join()
        if failed:
            raise failed[0]
        # The first of all still lives, although another key signs now.
        assert app.check(assertions[0]) == old_kid
        assert app.check(app.assertion()) == new_kid
        assert {app.check(assertion) for assertion in assertions[::20]} >= {old_kid}
