"""`python -m bench`: what the server costs, beside what the same work costs without what makes it safe."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from bench import growth, regeneration, servers, side_by_side, workers

QUICK_ROUNDS = 5
ROUNDS = 9
PARTS = ("pieces", "regeneration", "workers", "engines", "growth")


@click.command()
@click.option("--quick", is_flag=True, help="The main pieces beside the Starlette floor, in less than a minute.")
@click.option(
    "--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only this part; may be given more than once."
)
@click.option("--database", default="sqlite", show_default=True, type=click.Choice(["sqlite", "postgresql"]))
@click.option("--rounds", type=click.IntRange(1), help=f"Of each piece. Default: {ROUNDS}, quick {QUICK_ROUNDS}.")
@click.option("--users", default=1_000_000, show_default=True, type=click.IntRange(2000), help="To grow to.")
def main(quick: bool, parts: Sequence[str], database: str, rounds: int | None, users: int) -> None:
    """Measure CPU time, rate, latency and memory of the server, side by side with two floors."""
    click.echo(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {database}, Python {platform.python_version()}, "
        f"{'the installed package' if servers.installed() else 'the checkout'}, "
        f"{os.cpu_count()} cores, on which {os.getloadavg()[0]:.1f} processes ran before"
    )
    on_postgresql = database == "postgresql"
    if quick:
        side_by_side.quick(rounds or QUICK_ROUNDS, on_postgresql=on_postgresql)
        return
    rounds = rounds or ROUNDS
    runs = {
        "pieces": lambda: side_by_side.full(rounds, on_postgresql=on_postgresql),
        "regeneration": lambda: regeneration.run(rounds, on_postgresql=on_postgresql),
        "workers": lambda: workers.scale(rounds, on_postgresql=on_postgresql),
        "engines": lambda: workers.engines(rounds, on_postgresql=on_postgresql),
        "growth": lambda: growth.run(rounds, users, on_postgresql=on_postgresql),
    }
    for part in parts or PARTS:
        runs[part]()


if __name__ == "__main__":
    main()
