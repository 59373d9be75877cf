"""Steps whose loss or gradient is not finite: they are skipped and counted, and too many in a row end the run."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

Part = tuple[list[int], int]  # the positions of a batch's samples, and the seed of its chance
Explain = Callable[[list[int], int], tuple[dict[str, float], list[str]]]


class NotFinite(FloatingPointError):
    """Too many steps in a row were skipped, or a prediction is not finite.

    Attributes:
        path: of the file that the report is in, once it is written.
        report: "split" and "samples"; or "steps", "samples" (ids of each skipped step), "terms" and "gradients" of the
            last of them.
    """

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.report, self.path = report, ""


class FiniteWatch:
    """Counts on the device, so that no step waits for the answer.

    Args:
        device: of the steps.
        limit: skipped steps in a row that are too many.
    """

    def __init__(self, device: torch.device, limit: int) -> None:
        self.limit = limit
        self.found = torch.zeros((), device=device)  # 1 where the last step was skipped; AdamW's found_inf
        self.counts = torch.zeros(3, device=device)  # all, in a row, longest row
        self._recent: deque[tuple[int, list[Part], Tensor]] = deque(maxlen=2 * limit)

    @property
    def every(self) -> int:
        """Steps after which to look: on a CPU it costs nothing, elsewhere the host waits for the device."""
        return 1 if self.found.device.type == "cpu" else self.limit

    def note(self, norm: Tensor) -> None:
        """Take note of a step by the length of its gradient; everything stays where it is in memory."""
        self.found.copy_(~norm.isfinite())
        skipped, in_a_row, longest = self.counts
        skipped.add_(self.found)
        in_a_row.add_(1).mul_(self.found)
        torch.maximum(longest, in_a_row, out=longest)

    def remember(self, step: int, parts: list[Part]) -> None:
        """Keep what a report on the step that has just been done would need: its batches."""
        self._recent.append((step, parts, self.found.clone()))

    def is_too_many(self, step: int) -> bool:
        """Whether a row was too long, as far as it is looked for at this step."""
        return step % self.every == 0 and bool(self.counts[2] >= self.limit)

    def skipped(self) -> int:
        """Steps that were skipped so far."""
        return int(self.counts[0])

    def failure(self, ids: Sequence[str], explain: Explain) -> NotFinite:
        """What to raise: the samples of the skipped steps, and what is not finite in the last of them.

        Args:
            ids: of the split's samples.
            explain: from a batch's positions and the seed of its chance to its loss terms, and the parameters whose
                gradient is not finite.
        """
        rows = [[*row] for is_bad, row in groupby(self._recent, lambda entry: bool(entry[2])) if is_bad]
        skipped = max(rows, key=len)
        of_each = {
            step: [[ids[i] for i in positions if i >= 0] for positions, _ in parts] for step, parts, _ in skipped
        }
        step, parts, _ = skipped[-1]
        explained = [explain(*part) for part in parts]  # all of them: processes wait for one another
        wrong = [number for number, (terms, _) in enumerate(explained) if not all(map(math.isfinite, terms.values()))]
        batch = wrong[0] if wrong else len(parts) - 1
        terms, bad = explained[batch]
        groups = Counter(".".join(name.split(".")[:2]) for name in bad)
        values = ", ".join(f"{name} = {value:g}" for name, value in terms.items())
        first = ", ".join(of_each[step][batch][:4]) + (", ..." if len(of_each[step][batch]) > 4 else "")
        where = (
            ", ".join(f"{name} ({count})" for name, count in groups.items())
            or "none, only the length of all of them together"
        )
        message = (
            f"{self.limit} steps in a row had a loss or gradient that is not finite, and were skipped: "
            f"steps {min(of_each)} to {step}. The last one's samples: {first}; loss terms: {values}; "
            f"parameters whose gradient is not finite: {where}"
        )
        samples = {number: [name for part in parts for name in part] for number, parts in of_each.items()}
        report = {"steps": list(of_each), "samples": samples, "terms": terms, "gradients": bad}
        return NotFinite(message, {**report, "terms": {name: repr(value) for name, value in terms.items()}})

    def state(self) -> list[float]:
        """For a checkpoint."""
        return self.counts.tolist()

    def restore(self, counts: Sequence[float]) -> None:
        """From a checkpoint."""
        skipped, in_a_row, _ = counts
        self.counts.copy_(torch.tensor([skipped, in_a_row, 0.0]))  # what was not too long then is not looked at again
