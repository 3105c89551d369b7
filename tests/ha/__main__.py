"""`python -m tests.ha`: what a failover of the database costs, and that nothing acknowledged is lost by it."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import click

from tests.ha import processes, report
from tests.ha.cluster import Failed
from tests.ha.drill import Drill, Kind

KILLS = 10


@click.command()
@click.option(
    "--kills", default=KILLS, show_default=True, type=click.IntRange(1), help="How often the primary is killed."
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(Kind, case_sensitive=False),
    help="Only in this way; may be given more than once. Default: all in turn.",
)
@click.option("--without-haproxy", is_flag=True, help="The servers know all three addresses, and find the primary.")
@click.option(
    "--asynchronous", is_flag=True, help="Wait for no standby. Then losses are to be seen, with --kind lagging."
)
def main(kills: int, kinds: Sequence[Kind], without_haproxy: bool, asynchronous: bool) -> None:
    """Kill the primary of three PostgreSQL servers under load, again and again, below two servers that stay up.

    Exits 1 when an acknowledged write was lost, or a code accepted twice.
    """
    kinds = kinds or list(Kind)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="mfa-ha-"))
    # PostgreSQL runs as somebody else, if this does as root.
    folder.chmod(0o755)
    try:
        with processes.gone_afterwards(folder):
            sound = _run(folder, list(islice(cycle(kinds), kills)), not asynchronous, not without_haproxy)
    except Failed as failed:
        click.echo(str(failed))
        sound = False
    except BaseException:
        click.echo(f"The logs are in {folder}.", err=True)
        raise
    if not sound:
        click.echo(f"The logs are in {folder}.", err=True)
        raise SystemExit(1)
    shutil.rmtree(folder)


def _run(folder: Path, kinds: list[Kind], synchronous: bool, haproxy: bool) -> bool:
    """Whether all went well."""
    kills = []
    with Drill(folder, synchronous=synchronous, haproxy=haproxy) as drill:
        report.heading()
        for kill in drill.kill(kinds):
            kills.append(kill)
            report.row(len(kills), kill)
        report.totals(drill, kills)
        return not drill.findings.lost and not drill.findings.twice


if __name__ == "__main__":
    main()
