"""What each compiled kernel needs: registers, spills, shared memory, instructions.

    python -m benchmarks.cuda.inspect

"a score" counts the instructions of the inner loop's common path (no key hidden, no reference moved) for one score.
"""

import re
from collections import Counter
from typing import NamedTuple

from benchmarks.cuda.build import compiled, find_tool, run

SCORES = 32  # that a thread computes in a turn of the inner loop: 4 queries by 8 keys
SHOWN = ("FFMA", "FADD", "FSEL", "MUFU", "LDS", "LDG", "IMAD", "LOP3", "BAR")


class Resources(NamedTuple):
    """Of one compiled kernel; sizes in bytes."""

    width: int
    split: int
    dropout: bool
    registers: int
    spilled: int  # stores and loads
    shared: int


class Instructions(NamedTuple):
    """How often each instruction stands in one kernel, and in the common path of its inner loop."""

    all: Counter[str]
    inner: Counter[str]


def _instance(mangled: str) -> tuple[int, int, bool]:
    width, split, dropout = re.findall(r"L[ib](\d+)E", mangled)
    return int(width), int(split), dropout == "1"


def resources() -> list[Resources]:
    """From the compiler's own report, for every kernel."""
    found = []
    for block in compiled()[1].split("Compiling entry function '")[1:]:
        spilled = sum(int(size) for size in re.findall(r"(\d+) bytes spill", block))
        registers, shared = (re.findall(rf"(\d+) {what}", block) for what in ("registers", "bytes smem"))
        found.append(Resources(*_instance(block.split("'")[0]), int(registers[0]), spilled, int(shared[0])))
    return sorted(found)


def instructions() -> dict[tuple[int, int, bool], Instructions]:
    """From the machine code, by (width, split, dropout)."""
    cuobjdump = find_tool("cuobjdump")
    if cuobjdump is None:
        raise RuntimeError("benchmarks.cuda.inspect: no cuobjdump; the CUDA toolkit and Triton have it")
    found = {}
    for function in run([cuobjdump, "--dump-sass", str(compiled()[0])]).split("Function : ")[1:]:
        code, names, targets = machine_code(function)
        inner = _common_path(code, names, targets)
        instance = _instance(function.split()[0])
        found[instance] = Instructions(Counter(names), Counter(names[i] for i in inner))
        del found[instance].all["NOP"]  # they fill up the last line of the cache
    return found


def machine_code(listing: str) -> tuple[list[str], list[str], dict[int, int]]:
    """What cuobjdump lists of one kernel: each instruction, its name, and where to each branch goes."""
    lines = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+([^;]*\S)\s*;", listing, re.MULTILINE)
    place = {int(address, 16): i for i, (address, _) in enumerate(lines)}
    code = [text for _, text in lines]
    names = [re.sub(r"^@!?U?PT?\d* ", "", text).split(" ")[0].split(".")[0] for text in code]
    targets: dict[int, int] = {}
    for i, text in enumerate(code):
        address = re.search(r"0x([0-9a-f]+)", text) if names[i] == "BRA" else None
        if address and int(address[1], 16) in place:
            targets[i] = place[int(address[1], 16)]
    return code, names, targets


def _common_path(code: list[str], names: list[str], targets: dict[int, int]) -> list[int]:
    """The shortest way round the smallest loop with an exponential for each score: rare branches are detours."""
    loops = [(end, start) for end, start in targets.items() if start < end]
    loops = [loop for loop in loops if names[loop[1] : loop[0]].count("MUFU") >= SCORES]
    end, start = min(loops, key=lambda loop: loop[0] - loop[1])
    before: dict[int, tuple[int, int]] = {start: (1, start)}  # instruction: steps up to it, and the one before
    for i in range(start, end):
        if i not in before:
            continue
        always = names[i] in ("BRA", "EXIT") and not code[i].startswith("@") and "P" not in code[i]
        following = [] if always else [i + 1]
        if i in targets and i < targets[i] <= end:
            following.append(targets[i])
        for j in following:
            before[j] = min(before.get(j, (len(code), i)), (before[i][0] + 1, i))
    path = [end]
    while path[-1] != start:
        path.append(before[path[-1]][1])
    return path[::-1]


def table() -> str:
    """Both, as one Markdown table; without cuobjdump only the compiler's report."""
    counts = instructions() if find_tool("cuobjdump") else {}
    columns = ["width", "split", "dropout", "registers", "spilled", "shared"]
    lines = []
    for row in resources():
        cells = [str(cell) for cell in row]
        if counts:
            count = counts[row[:3]]
            inner = sum(count.inner.values()) / SCORES
            cells += [f"{inner:.2f}", *(f"{count.inner[name]}" for name in SHOWN), str(sum(count.all.values()))]
        lines.append(cells)
    if counts:
        columns += ["a score", *(f"{name} in loop" for name in SHOWN), "all"]
    return "\n".join("| " + " | ".join(line) + " |" for line in [columns, ["---:"] * len(columns), *lines])


if __name__ == "__main__":
    print(table())
