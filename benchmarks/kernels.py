"""Compiles the fused kernels for GPUs that need not be there, and counts what they are made of.

python benchmarks/kernels.py [--arch 90 ...] [--out FILE.md]: registers, bytes spilled, and instructions of each kernel,
in the whole program and a score in its inner loops (where the band hides nothing). Needs the package triton only.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.cuda.inspect import machine_code
from gdkit.kernels import _launch

DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
OPTIONAL = ("key_lengths", "query_lengths", "key_mask", "bands", "pairs", "seeds")
CASES = [  # dtype, tf32, width: each kernel and each of its tiles once
    *((torch.float32, False, width) for width in (1, 4, 5, 8, 10, 16, 32, 64)),
    *((torch.float32, True, width) for width in (5, 32, 64)),
    *((torch.bfloat16, False, width) for width in (5, 16, 32, 64)),
    (torch.float16, False, 10),
]


class Compiled(NamedTuple):
    registers: int
    spilled: int  # bytes of stack a thread
    instructions: collections.Counter[str]
    loops: list[collections.Counter[str]]


def compile_kernel(
    dtype: torch.dtype,
    width: int,
    *,
    backward: bool,
    dropout: bool,
    tf32: bool = False,
    everything: bool = False,
    arch: int = 90,
) -> tuple[_launch.Kernel, Compiled]:
    """One kernel for one architecture; ``everything``: with lengths, masks, bands and pairs, else with key lengths."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = _launch.choose(dtype, width, longest=500, masked=everything, tf32=tf32, backward=backward)
    present = set(OPTIONAL) if everything else {"key_lengths", "seeds"}
    given = _launch.compiler_constants(kernel, dropout=dropout, num_pairs=8 if everything else 1)
    given |= dict.fromkeys(set(OPTIONAL) - present)
    kinds = {"log_sums": "*fp32", "key_mask": "*u8", "seeds": "*i64", "pairs": "*i32", "gain": "fp32", "scale": "fp32"}
    kinds |= dict.fromkeys(("key_lengths", "query_lengths", "bands"), "*i64")
    heads = ("query", "key", "value", "result", "grad", "query_grad", "key_grad", "value_grad")
    kinds |= dict.fromkeys(heads, f"*{DTYPES[dtype]}")
    names = kernel.function.arg_names
    signature = {name: "constexpr" if name in given else kinds.get(name, "i32") for name in names}
    constants = {name: value for name, value in given.items() if name in names}
    options = {name: value for name, value in given.items() if name not in (*names, *OPTIONAL)}
    source = ASTSource(fn=kernel.function, signature=signature, constexprs=constants)
    return kernel, read_binary(triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options).asm["cubin"])


def read_binary(binary: bytes) -> Compiled:
    """What cuobjdump, which comes with Triton, says of a kernel."""
    import triton

    cuobjdump = pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage, listing = (
            subprocess.run([cuobjdump, option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "--dump-sass")
        )
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    _, names, targets = machine_code(listing)
    loops = [collections.Counter(names[start : end + 1]) for end, start in targets.items() if start < end]
    return Compiled(int(registers), int(stack), collections.Counter(names), loops)


def scores_a_thread(kernel: _launch.Kernel, backward: bool) -> list[int]:
    """How many scores a thread of the inner loops computes in a turn: of queries, then of keys."""
    sizes, threads = kernel.constants, 32 * kernel.options["num_warps"]
    queries = sizes["ROWS"] * sizes["KEYS"] // threads
    if not backward:
        return [queries]
    return [queries, sizes["OWN_KEYS"] * sizes["LANES"] // threads if "LANES" in sizes else queries]


def table(arch: int) -> str:
    lines = [
        f"| kernel (sm_{arch}) | dtype | width | dropout | registers | spilled, bytes | instructions | "
        "in the leanest loop | a score |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for dtype, tf32, width in CASES:
        for backward in (False, True):
            for dropout in (False, True):
                kernel, compiled = compile_kernel(
                    dtype, width, tf32=tf32, backward=backward, dropout=dropout, arch=arch
                )
                loops = sorted(compiled.loops, key=lambda loop: loop.total())
                name = kernel.function.__module__.rsplit("_", 1)[-1] + (" backward" if backward else " forward")
                leanest = ", ".join(f"{count} {op}" for op, count in loops[0].most_common(5)) if loops else ""
                per_score = " + ".join(f"{cost:.1f}" for cost in costs(kernel, compiled, backward))
                lines.append(
                    f"| {name} | {'tf32' if tf32 else DTYPES[dtype]} | {width} | "
                    f"{'yes' if dropout else 'no'} | {compiled.registers} | {compiled.spilled} | "
                    f"{compiled.instructions.total()} | {leanest} | {per_score} |"
                )
    return "\n".join(lines)


def costs(kernel: _launch.Kernel, compiled: Compiled, backward: bool) -> list[float]:
    """Instructions a score of the loops over queries' keys and over keys' queries, where the band hides nothing.

    Where a loop comes twice, with and without a look at the band, the leaner one counts.
    """
    per_turn = scores_a_thread(kernel, backward)
    roles = len(per_turn)
    loops = [loop.total() for loop in compiled.loops]
    if len(loops) < roles or len(loops) % roles:
        return []
    each = len(loops) // roles
    groups = [loops[role * each : (role + 1) * each] for role in range(roles)]
    # In backward the programs that own keys come first.
    return [min(group) / scores for group, scores in zip(groups, reversed(per_turn))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", type=int, nargs="+", default=[90])
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    text = "\n\n".join(table(arch) for arch in arguments.arch) + "\n"
    print(text) if arguments.out is None else arguments.out.write_text(text)


if __name__ == "__main__":
    main()
