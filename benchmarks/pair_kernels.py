"""Compiles the kernels for L1 distances of all pairs for GPUs that need not be there, and counts what they are made of.

python -m benchmarks.pair_kernels [--arch 90 ...]: registers, bytes spilled, and instructions of the inner loop for each
of the sums (a pair, or a number of a node) that a thread adds to in one turn. Needs the package triton only.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.kernels import Compiled, read_binary
from gdkit.kernels import _manhattan

KERNELS = {"distances": _manhattan.distances, "gradient": _manhattan.gradient}
DTYPES = {torch.float32: "*fp32", torch.float64: "*fp64"}
SUMS = _manhattan.TILE["ROWS"] * _manhattan.TILE["COLUMNS"] // (32 * _manhattan.WARPS)  # a thread


def compile_pairs(name: str, dtype: torch.dtype, arch: int, aligned: bool = True) -> Compiled:
    """One kernel for one architecture; ``aligned``: of tensors that begin at 16 bytes, as PyTorch's own do."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = KERNELS[name].arg_names
    tensors = {"result", "teacher", "student", "grad", "other", "own"}
    kinds = dict.fromkeys(tensors, DTYPES[dtype]) | dict.fromkeys(_manhattan.TILE, "constexpr")
    divisible = tensors | {"padded", "padded_width"} if aligned else set()
    source = ASTSource(
        fn=KERNELS[name],
        signature={argument: kinds.get(argument, "i32") for argument in names},
        constexprs=dict(_manhattan.TILE),
        attrs={(place,): [["tt.divisibility", 16]] for place, argument in enumerate(names) if argument in divisible},
    )
    options = {"num_warps": _manhattan.WARPS}
    return read_binary(triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options).asm["cubin"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", type=int, nargs="+", default=[90])
    print(
        "| kernel | sm | dtype | registers | spilled, bytes | in the loop | a sum |",
        "|---|---|---|---|---|---|---|",
        sep="\n",
    )
    for arch in parser.parse_args().arch:
        for dtype in DTYPES:
            for name in KERNELS:
                kernel = compile_pairs(name, dtype, arch)
                (loop,) = kernel.loops
                parts = ", ".join(f"{count} {instruction}" for instruction, count in loop.most_common(5))
                sizes = f"{kernel.registers} | {kernel.spilled} | {parts} | {loop.total() / SUMS:.1f}"
                print(f"| {name} | {arch} | {DTYPES[dtype][1:]} | {sizes} |")


if __name__ == "__main__":
    main()
