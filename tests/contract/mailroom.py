"""The mails that the server writes, read by those they are for."""

from __future__ import annotations

import re
import time
from email import message_from_bytes, policy
from pathlib import Path

MAIL_SECONDS = 30


class Mailroom:
    """The mails that the server has written into its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: set[Path] = set()
        self.codes: dict[str, str] = {}

    def code_for(self, address: str) -> str:
        """The newest code that was mailed to `address`; waits for the courier."""
        deadline = time.monotonic() + MAIL_SECONDS
        while address not in self.codes:
            if time.monotonic() > deadline:
                raise AssertionError(f"no mail for {address}")
            time.sleep(0.01)
            self.look()
        return self.codes.pop(address)

    def look(self) -> None:
        # A mail that is being written has a name with a dot in front.
        for file in sorted(set(self.folder.glob("[!.]*.eml")) - self.seen):
            self.seen.add(file)
            mail = message_from_bytes(file.read_bytes(), policy=policy.default)
            text = mail.get_body(("plain",))
            code = text and re.search(r"^ +([0-9]{6})\r?$", text.get_content(), re.MULTILINE)
            if code:
                self.codes[str(mail["To"])] = code[1]
