"""How often each operation gave each status, and what of the contract was not met."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

from tests.contract.document import Operation, operations
from tests.contract.situations import SITUATIONS

# Statuses that no request leads to, and why.
OUT_OF_REACH = {
    500: "our fault; no input leads there",
    503: "database or keys are away; both are there",
}
# GET /api/v1/me/mfa takes nothing that could be wrong; the user's document lists 422 for it all the same.
NOTHING_TO_BREAK = ("handlers.methods.list_all", 422)


class Report:
    """What `hooks.py` wrote down: a line for each answer."""

    def __init__(self, answers: Path) -> None:
        self.met: dict[str, Counter[int]] = defaultdict(Counter)
        self.phases: Counter[str] = Counter()
        self.situations: set[tuple[str, str]] = set()
        for line in map(json.loads, answers.read_text().splitlines()):
            self.met[line["operation"]][line["status"]] += 1
            self.phases[line["phase"]] += 1
            if line["situation"]:
                self.situations.add((line["operation"], line["situation"]))

    def without_success(self) -> list[str]:
        return [operation.label for operation in operations().values() if not self.met[operation.id][200]]

    def missing(self) -> list[str]:
        """The declared statuses that can be met and were not."""
        return [
            f"{operation.label}: {status}"
            for operation in operations().values()
            for status in operation.statuses
            if not self.met[operation.id][status] and reason_of_absence(operation, status) is None
        ]

    def situations_that_did_not_arise(self) -> list[str]:
        return [
            f"{operation_id}: {situation.name}"
            for operation_id, situations in SITUATIONS.items()
            for situation in situations
            if (operation_id, situation.name) not in self.situations
        ]

    def __str__(self) -> str:
        statuses = sorted({status for met in self.met.values() for status in met})
        width = max(len(operation.label) for operation in operations().values())
        lines = [f"{'':{width}}" + "".join(f"{status:6}" for status in statuses)]
        for operation in operations().values():
            row = "".join(self._cell(operation, status) for status in statuses)
            lines.append(f"{operation.label:{width}}{row}")
        lines.append("By phase: " + ", ".join(f"{phase} {count}" for phase, count in sorted(self.phases.items())))
        lines += [f"Declared everywhere and not met: {status}, {why}." for status, why in OUT_OF_REACH.items()]
        return "\n".join(lines)

    def _cell(self, operation: Operation, status: int) -> str:
        count = self.met[operation.id][status]
        return f"{count:6}" if count else f"{'-' if status in operation.statuses else '':>6}"


def reason_of_absence(operation: Operation, status: int) -> str | None:
    if (operation.id, status) == NOTHING_TO_BREAK:
        return "takes nothing that could be wrong"
    return OUT_OF_REACH.get(status)
