"""What users of the stories ask for: what they mean, such as "the latest code of my app", whatever that will then be.

None of it depends on what has happened, so that Hypothesis can tell a story again, and a shorter one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

USERS = 2
FACTORS = ("totp", "email", "webauthn")


@dataclass(frozen=True)
class Ask:
    """An operation, by whom, and how its arguments are to be chosen (`hands.py`)."""

    name: str
    who: int
    how: Mapping[str, Any] = field(default_factory=dict)


who = st.integers(0, USERS - 1)
# The latest of something, most of the time.
which = st.sampled_from([0, 0, 0, 0, 1, 2])
app = st.sampled_from(
    [("app", 0)] * 4 + [("app", 1)] * 2 + [("app", -1), ("app", -2), ("app", 2), ("old app", 0), ("their app", 0)]
)
mail = st.sampled_from([("mail", 0)] * 4 + [("mail", 1), ("their mail", 0)])
wrong = st.just(("wrong", 0))
six = st.one_of(app, app, mail, wrong)
backup = st.sampled_from([("unused", 0), ("unused", 0), ("unused", 1), ("spent", 0), ("spent", 0), ("spent", 2)])
their_backup = st.just(("their unused", 0))
assertion = st.sampled_from([("assertion", 0)] * 4 + [("assertion", 1), ("assertion", 2), ("their assertion", 0)])
header = st.one_of(st.just(("none", 0)), assertion, assertion, st.just(("stale login", 0)))
response = st.sampled_from(
    ["honest"] * 5 + ["another challenge", "another origin", "again", "cloned", "known credential", "their credential"]
)


def ask(name: str, **how: st.SearchStrategy[Any]) -> st.SearchStrategy[Ask]:
    return st.builds(Ask, st.just(name), who, st.fixed_dictionaries(how))


LATEST = ("assertion", 0)
# What succeeds, if its time has come; and some that never does.
RIGHT = [
    Ask(name, 0, how)
    for name, how in (
        ("totp.confirm", {"header": LATEST, "code": ("app", 0)}),
        ("email.confirm", {"header": LATEST, "code": ("mail", 0)}),
        ("webauthn.complete", {"header": LATEST, "opened": 0, "response": "honest"}),
        ("totp.disable", {"code": ("app", 1)}),
        ("totp.disable", {"code": ("unused", 0)}),
        ("email.disable", {"code": ("app", 1)}),
        ("email.disable", {"code": ("unused", 0)}),
        ("email.disable", {"code": LATEST}),
        ("webauthn.remove", {"header": LATEST, "key": 0}),
        ("webauthn.remove", {"header": LATEST, "key": 0}),
        ("backup.regenerate", {"code": ("app", 1)}),
        ("backup.regenerate", {"code": LATEST}),
        ("verification.verify", {"opened": 0, "code": ("app", 1)}),
        ("verification.verify", {"opened": 1, "code": ("app", 1)}),
        ("verification.verify", {"opened": 0, "code": ("unused", 0)}),
        ("verification.verify", {"opened": 1, "code": ("unused", 0)}),
        ("verification.verify", {"opened": 0, "code": ("spent", 0)}),
        ("verification.verify", {"opened": 0, "response": "honest", "key": 0}),
        ("verification.verify", {"opened": 0, "code": ("wrong", 0)}),
        ("verification.introspect", {"token": LATEST}),
        ("methods.list_all", {}),
    )
]

ASKS: Mapping[str, st.SearchStrategy[Ask]] = {
    "totp.enable": ask("totp.enable", header=header),
    "totp.confirm": ask("totp.confirm", header=header, code=st.one_of(app, app, app, six)),
    "totp.disable": ask("totp.disable", code=st.one_of(six, backup, their_backup, assertion)),
    "email.enable": ask("email.enable", header=header),
    "email.confirm": ask("email.confirm", header=header, code=st.one_of(mail, mail, mail, six)),
    "email.disable": ask("email.disable", code=st.one_of(six, backup, assertion)),
    "backup.regenerate": ask("backup.regenerate", code=st.one_of(six, assertion)),
    "webauthn.begin": ask("webauthn.begin", header=header),
    "webauthn.complete": ask(
        "webauthn.complete",
        header=header,
        opened=which,
        whose=st.sampled_from(["", "", "", "their"]),
        response=response,
    ),
    "webauthn.remove": ask("webauthn.remove", header=header, key=which, whose=st.sampled_from(["", "", "", "their"])),
    "verification.challenge": ask(
        "verification.challenge", method=st.sampled_from(["", "totp", "email", "webauthn", "backup_code"])
    ),
    "verification.verify": st.one_of(
        ask(
            "verification.verify",
            opened=which,
            whose=st.sampled_from(["", "", "", "their"]),
            code=st.one_of(six, backup, their_backup),
        ),
        ask(
            "verification.verify",
            opened=which,
            whose=st.sampled_from(["", "", "", "their"]),
            response=response,
            key=which,
        ),
    ),
    "verification.introspect": ask("verification.introspect", token=assertion),
    "methods.list_all": ask("methods.list_all"),
    "purge": ask("purge"),
}
asks = st.one_of(*ASKS.values())


def by(somebody: int, asked: Ask) -> Ask:
    return Ask(asked.name, somebody, asked.how)
