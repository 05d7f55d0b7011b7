"""What the TPU compiler says of a compiled program: cycles by its cost model, collectives, and bundles of a loop."""

from __future__ import annotations

import re
from pathlib import Path

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast")
# A Threefry of 20 rounds has one in each; nothing else of ours has so many.
HASH = 20


class Program:
    """The text of a scheduled module, by computation."""

    def __init__(self, text: str):
        found = re.finditer(r"^(?:ENTRY )?%?([\w.\-]+) \(.*?\) -> .*? \{\n(.*?)^\}", text, re.M | re.S)
        self.bodies = {m[1]: m[2].splitlines() for m in found}
        self.entry = next(m[1] for m in re.finditer(r"^ENTRY %?([\w.\-]+)", text, re.M))

    def collectives(self) -> int:
        """Instructions that talk to other chips."""
        return sum(f" {name}" in line.split(", metadata")[0] for lines in self.bodies.values() for line in lines
                   for name in (f"{c}{end}" for c in COLLECTIVES for end in ("(", "-start(")))  # fmt: skip

    def step(self) -> str | None:
        """The body of the loop over unmeasured steps: the inner one of the loops whose length is not known."""
        outer = self._dynamic(self.entry)
        return outer and (self._dynamic(outer) or outer)

    def cycles(self, name: str) -> tuple[int, int]:
        """Estimated cycles of a computation, and those of the fusions that hash a counter."""
        total = hashing = 0
        for line in self.bodies[name]:
            body = re.search(r" while\(.*body=%?([\w.\-]+)", line)
            if body:
                inner, inner_hashing = self.cycles(body[1])
                times = self._turns(line) or 1
                total, hashing = total + times * inner, hashing + times * inner_hashing
                continue
            said = re.search(r'"estimated_cycles":"(\d+)"', line)
            if said:
                total += int(said[1])
                hashing += int(said[1]) * self._hashes(line)
        return total, hashing

    def transposes(self, name: str) -> int:
        """Copies and transposes of whole arrays among the instructions of a computation."""
        return sum(bool(re.search(r"= [a-z]+\d+\[\d+,\d+.* (copy|transpose)\(", line)) for line in self.bodies[name])

    def _turns(self, line: str) -> int | None:
        """How often a loop turns, if its line or a constant in its condition says so."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
        condition = re.search(r"condition=%?([\w.\-]+)", line)
        if known or not condition:
            return int(known[1]) if known else None
        text = "\n".join(self.bodies[condition[1]])
        bound = re.search(r" s32\[\]\S* constant\((\d+)\)", text)
        return int(bound[1]) if bound and "direction=LT" in text else None

    def _hashes(self, line: str) -> bool:
        called = re.search(r"calls=%?([\w.\-]+)", line)
        return bool(called) and sum(" xor(" in x for x in self.bodies.get(called[1], ())) >= HASH

    def _dynamic(self, name: str) -> str | None:
        """The body of the first loop of unknown length in a computation, through known loops and conditionals."""
        for line in self.bodies[name]:
            body = re.search(r" while\(.*body=%?([\w.\-]+)", line)
            if body and self._turns(line) is None:
                return body[1]
            branches = re.findall(r"(?:body|true_computation|false_computation|calls)=%?([\w.\-]+)", line) if (
                " conditional(" in line or body or " call(" in line) else []  # fmt: skip
            branches += [x.strip(" %") for x in re.search(r"branch_computations=\{([^}]*)\}", line)[1].split(",")] if (
                "branch_computations=" in line) else []  # fmt: skip
            for branch in branches:
                inside = self._dynamic(branch)
                if inside:
                    return inside
        return None


def bundles(folder: Path, name: str) -> int:
    """Bundles of one turn of the innermost loop of the newest program called `name` that was dumped into `folder`."""
    files = [f for f in folder.glob(f"*{name}*-final_bundles.txt") if "schedule-analysis" not in f.name]
    newest = max(files, key=lambda f: f.stat().st_mtime)
    lines = re.finditer(r"^ *(?:0x[0-9a-f]+|0) +(?:[A-Z]{2})?: (>*) *\{", newest.read_text(), re.M)
    depths = [len(line[1]) for line in lines]
    return depths.count(max(depths))
