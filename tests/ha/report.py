"""What the drill prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

import click

from tests.ha.drill import MEANT, Drill, Kill
from tests.ha.journal import PROMPT_SECONDS

# Their widths; below zero, what stands there is set to the left.
COLUMNS = {
    "#": -4,
    "killed": -12,
    "node": -6,
    "first s": 8,
    "both s": 8,
    "gap s": 8,
    "503s": 7,
    "slowest s": 11,
    "other": 7,
    "lost": 6,
    "twice": 7,
}
EXPLAINED = f"""\
first, both   seconds from the kill to the first write that is acknowledged, by either server, and by each of them
gap           the longest time, in seconds, in which no write was acknowledged
503s          answers that there is no service and when to come again, and the slowest of them
other         other answers than these and those of a working server; also 503s after more than {PROMPT_SECONDS} seconds
lost          acknowledged writes that are not there any more
twice         codes that were accepted twice
"""


def heading() -> None:
    click.echo(_line(COLUMNS))


def row(number: int, kill: Kill) -> None:
    refusals = [entry for entry in kill.entries if entry.is_refused_for_now]
    times = [f"{seconds:.1f}" for seconds in (kill.first_write, kill.both_servers, kill.gap)]
    slowest = max((entry.seconds for entry in refusals), default=0.0)
    other = sum(entry.is_unexpected for entry in kill.entries)
    counts = [str(count) for count in (other, kill.lost, kill.twice)]
    click.echo(_line([str(number), kill.kind, kill.node, *times, str(len(refusals)), f"{slowest:.1f}", *counts]))


def totals(drill: Drill, kills: Sequence[Kill]) -> None:
    click.echo(f"\n{EXPLAINED}")
    for kind in dict.fromkeys(kill.kind for kill in kills):
        click.echo(f"{kind:<14}{MEANT[kind]}")
    click.echo()
    for name, seconds in (("first", [kill.first_write for kill in kills]), ("gap", [kill.gap for kill in kills])):
        click.echo(
            f"{name}: {min(seconds):.1f} at least, {median(seconds):.1f} in the middle, {max(seconds):.1f} at most"
        )
    entries = drill.journal.since(0)
    statuses = Counter(entry.status for entry in entries)
    load = drill.load
    acknowledged = sum(entry.is_acknowledged_write for entry in entries)
    findings = drill.findings
    click.echo(f"{len(entries)} requests: {_counts(statuses)}")
    click.echo(
        f"{acknowledged} writes acknowledged, of {len(load.enrolled)} users with an app and {len(load.begun)} without"
    )
    click.echo(f"accepted codes shown again: {_counts(findings.again)}")
    click.echo(f"codes of which nobody knew whether they were accepted, shown again: {_counts(findings.in_doubt)}")
    for what, found in (("acknowledged writes lost", findings.lost), ("codes accepted twice", findings.twice)):
        click.echo(f"{what}: {len(found)}")
        for each in sorted(found):
            click.echo(f"  {each}")


def _counts(counts: Counter[int]) -> str:
    return ", ".join(f"{count} x {status or 'cut'}" for status, count in sorted(counts.items())) or "none"


def _line(cells: Iterable[str]) -> str:
    widths = COLUMNS.values()
    return "".join(f"{cell:{'<' if width < 0 else '>'}{abs(width)}}" for cell, width in zip(cells, widths, strict=True))
