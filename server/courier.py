"""The courier: a thread that sends the mail of the outbox and purges what has expired. Several may run, anywhere."""

from __future__ import annotations

import threading
import time
import traceback
from datetime import UTC, datetime, timedelta

import structlog

from server.mail import Delayed, Refused, compose, sender_address
from server.transport import Settings, transport
from storage.database import atomic, connection
from storage.outbox import OutboxMail, mail_was_put
from storage.purge import purge
from storage.sealing import Unsealable

# The global throttle of mail (EML-06): one courier sends no faster than this.
MAILS_A_SECOND = 10
# Seconds between two looks into the outbox: few after mail was put, since it may not be committed yet; then twice as
# many each time, up to the second in which mail that another process put is found.
SHORTEST_PAUSE = 0.01
IDLE_PAUSE = 1.0
# Seconds to wait after something failed that is no mail's fault, a database that is gone: doubled up to the longest.
FIRST_TROUBLE = 0.5
LONGEST_TROUBLE = 5.0
PURGE_EVERY = 60.0
STOP_WITHIN = 5.0

log = structlog.get_logger()


class Courier(threading.Thread):
    """Sends what is in the outbox from `start` to `stop`, and purges. `audit_retention` is that of `purge`.

    Raises ValueError when the settings for mail are wrong.
    """

    def __init__(self, settings: Settings, audit_retention: timedelta | None = None) -> None:
        super().__init__(name="courier", daemon=True)
        self._audit_retention = audit_retention
        self._transport = transport(settings)
        self._sender = sender_address(settings.mail_from, settings.issuer_name)
        self._issuer = settings.issuer_name
        self._stopping = threading.Event()

    def stop(self, within: float = STOP_WITHIN) -> bool:
        """Let the mail in hand be sent, for so many seconds. Returns whether the courier has come to rest.

        If it has not, its mail is sent again, by whoever finds it after the lease.
        """
        self._stopping.set()
        mail_was_put.set()
        self.join(within)
        return not self.is_alive()

    def run(self) -> None:
        pause, trouble, purge_at = 0.0, FIRST_TROUBLE, time.monotonic()
        while not self._stopping.is_set():
            if mail_was_put.wait(pause):
                mail_was_put.clear()
                pause = SHORTEST_PAUSE
            try:
                if self.run_once(datetime.now(UTC)):
                    pause = 0.0
                    self._stopping.wait(1 / MAILS_A_SECOND)
                else:
                    pause = min(max(pause * 2, SHORTEST_PAUSE), IDLE_PAUSE)
                if time.monotonic() >= purge_at:
                    purge_at = time.monotonic() + PURGE_EVERY
                    self.purge(datetime.now(UTC))
            except Exception as error:
                # Nothing may end the courier. No message and no values are logged: they may hold an address or a code.
                log.error("courier.failed", error=type(error).__name__, stack=traceback.format_tb(error.__traceback__))
                self._stopping.wait(trouble)
                trouble = min(trouble * 2, LONGEST_TROUBLE)
            else:
                trouble = FIRST_TROUBLE

    def run_once(self, now: datetime) -> bool:
        """Try to send one mail that is due. Returns whether there was one."""
        with connection():
            waiting = OutboxMail.claim(now)
        if waiting is None:
            return False
        mail_log = log.bind(id=str(waiting.id), template=waiting.template, attempts=waiting.attempts)
        started = time.monotonic()
        try:
            self._transport.send(compose(waiting, sender=self._sender, issuer=self._issuer))
        except (Delayed, Unsealable) as error:
            with connection(), atomic():
                waiting.delay(now + timedelta(seconds=time.monotonic() - started))
            mail_log.warning("mail.delayed", reason="unsealable" if isinstance(error, Unsealable) else str(error))
        except Refused as error:
            with connection(), atomic():
                waiting.remove()
            mail_log.warning("mail.refused", reason=str(error))
        else:
            with connection(), atomic():
                waiting.remove()
            mail_log.info("mail.sent")
        return True

    def purge(self, now: datetime) -> None:
        """Give up mail that has expired, and delete everything else that has."""
        with connection():
            with atomic():
                expired = OutboxMail.expire(now)
            for mail in expired:
                log.warning("mail.expired", id=str(mail.id), template=mail.template, attempts=mail.attempts)
            purge(now, self._audit_retention)
