"""Holds a database against what clients were told: nothing lost, nothing twice, nothing half.

The servers are at rest meanwhile. Every request has an id that the audit trail names, so it is known of each whether it
has happened; and what has happened, in its order, says what every row has to be.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from storage.audit import AuditEvent
from storage.backup import BackupCode, BackupCodeSet
from storage.challenge import Challenge
from storage.email import EmailFactor
from storage.mail_quota import MailQuota
from storage.outbox import OutboxMail
from storage.totp import TotpSecret
from storage.user import FREE_ATTEMPTS, Caller, User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration
from tests.faults.crash_journal import DONE, LOCKED, Attempt, Thing, Use
from tests.faults.crash_lives import Life
from tests.faults.crash_replay import Replay
from tests.faults.crash_tally import Tally

REFUSED = (["proof.refused"], ["proof.locked", "proof.refused"])
CODES_A_SET = 10
# What a notice is called, where it has another name than its event.
NOTICES = {"proof.locked": "locked"}
SILENT = {"totp.begun", "email.begun", "proof.refused", "totp.verified", "backup_code.verified", "webauthn.verified"}


def judge(lives: Iterable[Life], tally: Tally) -> int:
    """Add to the tally whatever is wrong with these users; who waits for a mailed code gets it.

    Returns how many requests have happened of which nobody heard.
    """
    unheard = 0
    for life in lives:
        judged = _Judged(life)
        tally.lost += judged.lost
        tally.twice += judged.twice
        tally.illegal += judged.illegal
        if life.email == "pending":
            life.mailed_code = judged.mailed_code
        unheard += sum(attempt.open for happened in judged.happened.values() for attempt in happened)
    return unheard


def count(lives: Iterable[Life], tally: Tally) -> None:
    """Count what was answered."""
    for attempt in (attempt for life in lives for use in life.journal for attempt in use.attempts):
        tally.acknowledged += attempt.status == DONE
        tally.unanswered += attempt.open


@dataclass
class _Judged:
    life: Life
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    illegal: list[str] = field(default_factory=list)
    mailed_code: str = ""

    def __post_init__(self) -> None:
        self.user = Caller.of(self.life.sub).id
        trail = AuditEvent.select().where(AuditEvent.user_id == self.user).order_by(AuditEvent.at, AuditEvent.id)
        self.trail = list(trail)
        self.by_request: defaultdict[str, list[str]] = defaultdict(list)
        for event in self.trail:
            self.by_request[event.request_id].append(event.type)
        self.happened = {
            use_number: [attempt for attempt in use.attempts if self._has_happened(use, attempt)]
            for use_number, use in enumerate(self.life.journal)
        }
        self._judge_answers()
        self._judge_things()
        if User.get_or_none(User.id == self.user) is None:
            self._expect(not self.trail, "events of a user without a row")
        else:
            self._judge_rows()

    def _expect(self, fact: bool, sentence: str) -> None:
        if not fact:
            self.illegal.append(f"{self.life.sub}: {sentence}")

    def _has_happened(self, use: Use, attempt: Attempt) -> bool:
        return bool(use.events) and sorted(self.by_request[attempt.request_id]) == sorted(use.events)

    def _used(self) -> Iterator[Use]:
        return (use for number, use in enumerate(self.life.journal) if self.happened[number])

    # What was answered, and what has happened.

    def _judge_answers(self) -> None:
        wrong = 0
        asked = {attempt.request_id for use in self.life.journal for attempt in use.attempts}
        self._expect(asked >= self.by_request.keys() - {""}, "an event of a request that nobody made")
        for number, use in enumerate(self.life.journal):
            where = f"{number}: {use.name}"
            for attempt in use.attempts:
                self._judge_answer(use, attempt, where, wrong)
            wrong = 0 if use.looks_at_code and self.happened[number] else wrong + len(use.attempts)
            if use.refused and not self.happened[number] and self._must_have_happened(use):
                self.lost.append(
                    f"{self.life.sub}: {where} was right, and refused: {[attempt.status for attempt in use.attempts]}"
                )

    def _judge_answer(self, use: Use, attempt: Attempt, where: str, wrong: int) -> None:
        events = sorted(self.by_request[attempt.request_id])
        expected = sorted(use.events)
        if attempt.status == DONE:
            if not events and expected:
                self.lost.append(f"{self.life.sub}: {where} was acknowledged")
            else:
                self._expect(events == expected, f"{where} was acknowledged with {events}")
        elif attempt.open:
            self._expect(events in ([], expected, *REFUSED), f"{where} half happened: {events}")
        else:
            locked = attempt.status == LOCKED and wrong + len(use.attempts) > FREE_ATTEMPTS
            self._expect(attempt.status in use.refusals or locked, f"{where} was answered {attempt.status}")
            self._expect(events in ([], *REFUSED), f"{where} was refused with {events}")

    def _must_have_happened(self, use: Use) -> bool:
        """A right request that is refused has been done by an earlier attempt of which nobody heard."""
        unheard = any(attempt.open for attempt in use.attempts)
        return not (use.replay or use.locked or use.too_old or (use.taken_first and unheard))

    def _judge_things(self) -> None:
        used: Counter[Thing] = Counter()
        for number, use in enumerate(self.life.journal):
            for thing in use.things:
                used[thing] += len(self.happened[number])
        self.twice += [f"{self.life.sub}: {thing} {times} times" for thing, times in used.items() if times > 1]
        self.used = {thing for thing, times in used.items() if times}

    # What the rows have to be.

    def _judge_rows(self) -> None:
        replay = Replay()
        for event in self.trail:
            self._expect(replay.take(event.type, event.device_id), f"{event.type} when it could not be")
        self._judge_budget()
        self._judge_totp(replay)
        self._judge_email(replay)
        self._judge_keys(replay)
        self._judge_codes(replay)
        self._judge_challenges()
        self._judge_mail()

    def _judge_budget(self) -> None:
        """The wrong codes that are counted are those since the last right one, with those that a crash cut short."""
        least = most = 0
        for number, use in enumerate(self.life.journal):
            if self.happened[number] and (use.looks_at_code or use.name == "verify.webauthn"):
                least, most = 0, len(use.attempts) - 1
            elif use.looks_at_code:
                refused = [REFUSED.count(sorted(self.by_request[attempt.request_id])) for attempt in use.attempts]
                least, most = least + sum(refused), most + len(use.attempts)
        failures = User.get_by_id(self.user).failures
        self._expect(least <= failures <= most, f"{failures} wrong codes, not {least} to {most}")

    def _judge_totp(self, replay: Replay) -> None:
        row = TotpSecret.get_or_none(TotpSecret.user == self.user)
        if row is None:
            self._expect(replay.totp is None, "no authenticator app")
            return
        self._expect(replay.totp == (row.device_id, row.confirmed_at is not None), "another authenticator app")
        self._expect((row.confirmed_at is None) != (row.expires_at is None), "an authenticator app that is half on")
        secret = row.secret().hex()
        steps = [step for kind, of, step in self.used if (kind, of) == ("totp", secret)]
        self._expect(row.last_step == max(steps, default=0), f"step {row.last_step}, not the last of {steps}")

    def _judge_email(self, replay: Replay) -> None:
        row = EmailFactor.get_or_none(EmailFactor.user == self.user)
        if row is None:
            self._expect(replay.email is None, "no mailbox")
            return
        self._expect(replay.email == (row.device_id, row.confirmed_at is not None), "another mailbox")
        pending = (row.confirmed_at is None, row.expires_at is not None, row.code_digest is not None)
        self._expect(pending in ((True,) * 3, (False,) * 3), "a mailbox that is half on")

    def _judge_keys(self, replay: Replay) -> None:
        rows = list(WebAuthnCredential.select().where(WebAuthnCredential.user == self.user))
        self._expect({row.device_id for row in rows} == replay.keys, "other security keys")
        counts = dict(use.sign_count for use in self._used() if use.sign_count)
        for row in rows:
            self._expect(row.sign_count == counts.get(str(row.device_id), 0), f"sign count {row.sign_count}")

    def _judge_codes(self, replay: Replay) -> None:
        row = BackupCodeSet.get_or_none(BackupCodeSet.user == self.user)
        codes = list(BackupCode.select().where(BackupCode.user == self.user))
        self._expect((row is not None) == replay.enabled, "backup codes without a method, or none with one")
        self._expect(len(codes) == (CODES_A_SET if row else 0), f"{len(codes)} backup codes")
        used = sum(code.used_at is not None for code in codes)
        self._expect(used == replay.codes_used, f"{used} backup codes used, not {replay.codes_used}")

    def _judge_challenges(self) -> None:
        for kind, table, known in (
            ("challenge", Challenge, self.life.challenge),
            ("registration", WebAuthnRegistration, self.life.registration),
        ):
            rows = {
                str(row.challenge_id): row.expires_at
                for row in table.select(table.challenge_id, table.expires_at).where(table.user == self.user)
            }
            self._expect(len(rows) <= 5, f"{len(rows)} of {kind}")
            self._expect(not [of for of in rows if (kind, of, 0) in self.used], f"a {kind} that was used up is there")
            if known and not self._is_old(known["expires_at"]) and known["challenge_id"] not in rows:
                self.lost.append(f"{self.life.sub}: a {kind} was given, and is gone")

    def _is_old(self, expires_at: str) -> bool:
        return datetime.fromisoformat(expires_at) <= datetime.now(UTC)

    def _judge_mail(self) -> None:
        """Mail is written with what it reports. None is sent here: there is no mail server."""
        outbox = OutboxMail.select().where(OutboxMail.user_id == self.user).order_by(OutboxMail.created_at)
        mails = [mail.open() for mail in outbox]
        codes = [str(mail.values["code"]) for mail in mails if mail.template == "code"]
        told = Counter(str(mail.values["event"]) for mail in mails if mail.template == "notice")
        types = [event.type for event in self.trail]
        done = Counter(NOTICES.get(kind, kind) for kind in types if kind not in SILENT)
        self._expect(told == done, f"notices {told - done} too many, {done - told} missing")
        begun = types.count("email.begun")
        self._expect(len(codes) == begun, f"{len(codes)} mailed codes for {begun} enrolments")
        quota = MailQuota.get_or_none(MailQuota.key == self.user)
        self._expect(begun == (len(json.loads(quota.sent_at)) if quota else 0), "mails that were not counted")
        self.mailed_code = codes[-1] if codes else ""
