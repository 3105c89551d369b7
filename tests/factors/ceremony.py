"""Both ceremonies, from the options that are sent to the answer that is verified, with one thing gone wrong at will."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict, Unpack

import pytest

from factors.errors import InvalidCredential
from factors.webauthn import RegisteredCredential, verify_registration
from factors.webauthn_assertion import VerifiedAssertion, verify_assertion
from factors.webauthn_options import creation_options, request_options
from tests.authenticator import Authenticator, Deviations, Json

RP_ID = "example.org"
ORIGIN = "https://example.org"
CHALLENGE = bytes(range(32))
USER_HANDLE = b"a user handle of the server's own"
LONGEST_SECONDS = 0.25  # of CPU; an honest answer takes less than a hundredth of it


class Expectations(TypedDict, total=False):
    """What the relying party expects otherwise than by default."""

    expected_challenge: bytes
    expected_rp_id: str
    expected_origins: tuple[str, ...]
    expected_top_origins: tuple[str, ...]
    require_user_verification: bool


def expectations(**others: Unpack[Expectations]) -> Any:
    usual: Expectations = {
        "expected_challenge": CHALLENGE,
        "expected_rp_id": RP_ID,
        "expected_origins": (ORIGIN,),
        "require_user_verification": False,
    }
    return usual | others


def registration_options(user_verification: str = "preferred") -> Json:
    return creation_options(
        challenge=CHALLENGE,
        rp_id=RP_ID,
        rp_name="Example",
        user_handle=USER_HANDLE,
        user_name="alice",
        user_display_name="Alice",
        exclude_credentials=[],
        user_verification=user_verification,
    )


def assertion_options(credential_id: bytes, user_verification: str = "preferred") -> Json:
    return request_options(
        challenge=CHALLENGE,
        rp_id=RP_ID,
        allow_credentials=[(credential_id, ["usb"])],
        user_verification=user_verification,
    )


def register(authenticator: Authenticator | None = None, **deviations: Unpack[Deviations]) -> RegisteredCredential:
    authenticator = authenticator or Authenticator()
    answer = authenticator.register(registration_options(), origin=ORIGIN, **deviations)
    return verify_registration(answer, **expectations())


def authenticate(
    authenticator: Authenticator, record: RegisteredCredential, **deviations: Unpack[Deviations]
) -> VerifiedAssertion:
    answer = authenticator.authenticate(assertion_options(record.credential_id), origin=ORIGIN, **deviations)
    return verify_answer(answer, record)


def verify_answer(answer: Json, record: RegisteredCredential, **others: Unpack[Expectations]) -> VerifiedAssertion:
    return verify_assertion(
        answer,
        expected_user_handle=USER_HANDLE,
        credential_id=record.credential_id,
        public_key=record.public_key,
        sign_count=record.sign_count,
        backup_eligible=record.backup_eligible,
        **expectations(**others),
    )


@contextmanager
def refused(reason: str) -> Iterator[None]:
    """Inside, something must be refused, and for this reason."""
    with pytest.raises(InvalidCredential) as caught:
        yield
    assert caught.value.reason == reason


def outcome(answer: Json, record: RegisteredCredential | None = None) -> str:
    """How the verification of an answer ends: `verified`, or the reason of the refusal. Nothing else may be raised,
    and nothing may take long. Without a record, the answer is one to a registration."""
    started = time.process_time()
    try:
        if record is None:
            verify_registration(answer, **expectations())
        else:
            verify_answer(answer, record)
    except InvalidCredential as refusal:
        return str(refusal.reason)
    finally:
        assert time.process_time() - started < LONGEST_SECONDS
    return "verified"


def with_response(answer: Json, **members: object) -> Json:
    """The same answer, with members of its response replaced."""
    return answer | {"response": answer["response"] | members}
