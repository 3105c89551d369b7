"""What was found, and the line that says so at the end of the run."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest


@dataclass
class Tally:
    """Counts over all crashes, and one sentence for whatever is not as it must be."""

    seed: int
    points: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    unanswered: int = 0
    unheard: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    illegal: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        return [*self.lost, *self.twice, *self.illegal]

    def line(self) -> str:
        points = ", ".join(f"{count} of {kind}" for kind, count in self.points.items())
        return (
            f"kill -9 under load, seed {self.seed}: {sum(self.points.values())} points ({points}); "
            f"acknowledged changes {self.acknowledged}, not answered or with 503 {self.unanswered}, "
            f"of which {self.unheard} had happened; lost {len(self.lost)}, "
            f"codes accepted twice {len(self.twice)}, illegal states {len(self.illegal)}"
        )


class TallyReport:
    """A plugin of pytest that prints the line."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._tally.points:
            terminalreporter.write_line(self._tally.line())
