"""Which backend computes an attention: one table of rules, the first that fits decides."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gdkit._triton import why_no_kernels

BACKENDS = ("auto", "triton", "sdpa", "chunked", "reference")
MAX_WIDTH = 64  # of a head in the fused kernels
EXACT, HALF = (torch.float32, torch.float64), (torch.float16, torch.bfloat16)


class Rule(NamedTuple):
    """A backend, and what a call must be for it."""

    backend: str
    device: str
    dtypes: tuple[torch.dtype, ...]
    dropout: bool | None = None  # None: with or without
    aligned: bool | None = None  # head width a multiple of 8
    max_width: int = MAX_WIDTH
    min_scores: int = 0
    band: bool | None = None  # with one band for all samples


# Nothing fits: "sdpa". CPU rows are measured (docs/performance.md); the CUDA rows follow from what PyTorch's kernels
# take (fp32: no width of 5 or 10, or all scores in memory; 16 bits: multiples of 8 only) and are not yet measured.
RULES = (
    Rule("triton", "cuda", (torch.float32,)),
    Rule("triton", "cuda", HALF, aligned=False),
    Rule("triton", "cuda", HALF, dropout=True, max_width=32),
    Rule("chunked", "cpu", EXACT, dropout=True, max_width=2**30, min_scores=2**17),
    Rule("chunked", "cpu", EXACT, dropout=False, max_width=32, min_scores=2**18, band=True),
    Rule("chunked", "cpu", EXACT, dropout=False, max_width=10, min_scores=2**18),
)


def choose_backend(backend: str, query: Tensor, key: Tensor, dropout: float, has_band: bool = False) -> str:
    """The backend that computes a call, "auto" resolved.

    Raises:
        ValueError: if ``backend`` cannot compute it, with the reason.
    """
    if backend != "auto":
        reason = None
        if backend == "triton":
            reason = _why_not_triton(query)
        elif backend == "chunked" and torch.compiler.is_compiling():
            reason = "is not for torch.compile: it draws its dropout from a seed that it reads"
        elif backend == "chunked" and dropout > 0 and query.is_cuda and torch.cuda.is_current_stream_capturing():
            reason = "is not for CUDA graphs: it draws its dropout on the CPU, where a replay does not"
        if reason is not None:
            raise ValueError(f"attention: backend {backend!r} {reason}")
        return backend
    if torch._C._are_functorch_transforms_active():  # pyright: ignore
        return "sdpa"  # which alone has the rules of torch.func
    batch, heads, num_queries, width = query.shape
    scores = batch * heads * num_queries * key.shape[2]
    for rule in RULES:
        if (
            query.device.type == rule.device
            and compute_dtype(query) in rule.dtypes
            and rule.dropout in (None, dropout > 0)
            and rule.aligned in (None, width % 8 == 0)
            and width <= rule.max_width
            and rule.band in (None, has_band)
            and not (rule.backend == "triton" and _why_not_triton(query))
            and not (rule.backend == "chunked" and torch.compiler.is_compiling())
            and scores >= rule.min_scores  # last: of sizes that torch.export leaves open nothing is asked in vain
        ):
            return rule.backend
    return "sdpa"


def compute_dtype(query: Tensor) -> torch.dtype:
    """The dtype that a matrix product would have: that of autocast where it is on."""
    device = query.device.type
    if query.dtype == torch.float64:  # which autocast leaves alone
        return query.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype


def _why_not_triton(query: Tensor) -> str | None:
    lacking = why_no_kernels(query.device)
    if lacking is not None:
        return lacking
    if not query.is_cuda and (torch.compiler.is_compiling() or not _interpreted()):
        return f"needs tensors on a CUDA device, got {query.device}"
    if compute_dtype(query) not in (torch.float32, *HALF):
        return f"takes float32, float16 and bfloat16, got {compute_dtype(query)}"
    if query.shape[-1] > MAX_WIDTH:
        return f"takes heads up to {MAX_WIDTH} wide, got {query.shape[-1]}"
    return None


def _interpreted() -> bool:
    """True where kernels run in Triton's interpreter, which takes tensors of a CPU."""
    from triton import knobs

    return bool(knobs.runtime.interpret)
