"""The operations of the contract, each as one call of its handler by somebody for whom all is prepared."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from factors.errors import InvalidCode, InvalidCredential
from tests.authenticator import Authenticator
from tests.states import Person

Act = Callable[[], object]


def _enrol_key(alice: Person) -> None:
    """One more, on an authenticator that knows none of theirs."""
    alice.key = Authenticator()
    alice.enrol_key()


def _list(alice: Person) -> Act:
    alice.enrol_totp()
    return alice.listed


def _enable_totp(alice: Person) -> Act:
    return lambda: alice.call("totp.enable")


def _confirm_totp(alice: Person) -> Act:
    alice.scan()
    return lambda: alice.call("totp.confirm", code=alice.code())


def _confirm_totp_beside(alice: Person) -> Act:
    _enrol_key(alice)
    return _confirm_totp(alice)


def _disable_totp(alice: Person) -> Act:
    alice.enrol_totp()
    return lambda: alice.call("totp.disable", code=alice.code(1))


def _enable_email(alice: Person) -> Act:
    return lambda: alice.call("email.enable")


def _confirm_email(alice: Person) -> Act:
    alice.call("email.enable")
    code = alice.mailed_code()
    return lambda: alice.call("email.confirm", code=code)


def _disable_email(alice: Person) -> Act:
    alice.enrol_email()
    return lambda: alice.call("email.disable", code=alice.backup_codes[0])


def _regenerate(alice: Person) -> Act:
    alice.enrol_totp()
    return lambda: alice.call("backup.regenerate", code=alice.code(1))


def _begin(alice: Person) -> Act:
    return lambda: alice.call("webauthn.begin")


def _complete(alice: Person) -> Act:
    alice.key = Authenticator()
    begun = alice.call("webauthn.begin")
    return lambda: alice.complete(begun)


def _complete_beside(alice: Person) -> Act:
    alice.enrol_totp()
    return _complete(alice)


def _remove(alice: Person) -> Act:
    _enrol_key(alice)
    device = alice.device_id("webauthn")
    return lambda: alice.call("webauthn.remove", device_id=device)


def _challenge(alice: Person) -> Act:
    alice.enrol_totp()
    return alice.challenge


def _challenge_by_mail(alice: Person) -> Act:
    alice.enrol_email()
    alice.world.later(seconds=60)
    return lambda: alice.challenge("email")


def _verify_totp(alice: Person) -> Act:
    alice.enrol_totp()
    opened = alice.challenge()
    return lambda: alice.verify(opened, code=alice.code(1))


def _verify_backup_code(alice: Person) -> Act:
    alice.enrol_totp()
    opened = alice.challenge()
    return lambda: alice.verify(opened, code=alice.backup_codes[0])


def _verify_mailed_code(alice: Person) -> Act:
    alice.enrol_email()
    alice.world.later(seconds=60)
    opened = alice.challenge("email")
    code = alice.mailed_code()
    return lambda: alice.verify(opened, code=code)


def _verify_key(alice: Person) -> Act:
    _enrol_key(alice)
    opened = alice.challenge()
    answer = alice.answer(opened)
    return lambda: alice.verify(opened, credential=answer)


def _refused(alice: Person) -> Act:
    alice.enrol_totp()
    opened, wrong = alice.challenge(), alice.wrong_code()

    def refused() -> None:
        with suppress(InvalidCode):
            alice.verify(opened, code=wrong)

    return refused


def _complete_anothers(alice: Person) -> Act:
    another = Person(alice.world, f"{alice.sub}'s neighbour")
    another.enrol_key()
    [known] = another.key.credentials
    begun = alice.call("webauthn.begin")

    def refused() -> None:
        with suppress(InvalidCredential):
            alice.complete(begun, Authenticator(), credential_id=known.id)

    return refused


def _introspect(alice: Person) -> Act:
    alice.enrol_totp()
    assertion = alice.prove("totp")
    return lambda: alice.call("verification.introspect", token=assertion)


ALL: dict[str, Callable[[Person], Act]] = {
    "list methods": _list,
    "challenge": _challenge,
    "verify, authenticator app": _verify_totp,
    "verify, a wrong code": _refused,
    "verify, backup code": _verify_backup_code,
    "verify, security key": _verify_key,
    "challenge by e-mail": _challenge_by_mail,
    "verify, mailed code": _verify_mailed_code,
    "introspect": _introspect,
    "totp/enable": _enable_totp,
    "totp/confirm, first method": _confirm_totp,
    "totp/confirm, beside a key": _confirm_totp_beside,
    "totp/disable, last method": _disable_totp,
    "email/enable": _enable_email,
    "email/confirm, first method": _confirm_email,
    "email/disable, last method": _disable_email,
    "backup-codes/regenerate": _regenerate,
    "webauthn begin": _begin,
    "webauthn complete, first": _complete,
    "webauthn complete, beside": _complete_beside,
    "webauthn complete, another's": _complete_anothers,
    "webauthn remove, last method": _remove,
}
