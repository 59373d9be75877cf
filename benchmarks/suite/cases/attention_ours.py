"""Attention of gdkit by each of its backends, and the kernel in CUDA C++ that it is held against."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.suite.cases.attention_rivals import Options
from benchmarks.suite.point import Call, Provider, Skipped, differentiable
from gdkit.attention import BACKENDS, attention


def our_providers(query: Tensor, key: Tensor, value: Tensor, options: Options) -> dict[str, Provider]:
    """All backends; which of them cannot run here says the error that they raise."""
    heads = (query, key, value)
    found = {f"gdkit {backend}": backend_provider(*heads, options, backend) for backend in BACKENDS}
    return found | {"CUDA C++": cuda_provider(*heads, options)}


def backend_provider(query: Tensor, key: Tensor, value: Tensor, options: Options, backend: str) -> Provider:
    """One backend."""

    def provider(mode: str) -> Call:
        if backend == "triton" and not query.is_cuda:
            raise Skipped("its kernels need a CUDA device")
        call = partial(attention, band=options.band, dropout=options.dropout, backend=backend)
        return differentiable(call, (query, key, value))(mode)

    return provider


def cuda_provider(query: Tensor, key: Tensor, value: Tensor, options: Options) -> Provider:
    """The forward kernel of benchmarks/cuda, which is compiled for sm_90 alone."""

    def provider(mode: str) -> Call:
        if not query.is_cuda or torch.cuda.get_device_capability() != (9, 0):
            raise Skipped("it needs a GPU of compute capability 9.0")
        if mode != "forward":
            raise Skipped("it is a forward kernel alone")
        try:
            from benchmarks.cuda.attention import attention as by_hand
        except (ImportError, OSError, RuntimeError) as error:  # not there, not to be loaded, not to be compiled
            raise Skipped(f"benchmarks.cuda cannot be imported: {error}") from error
        seed = torch.zeros(1, dtype=torch.int64, device=query.device) if options.dropout else None
        call = partial(by_hand, band=options.band, dropout=options.dropout, seed=seed)
        return differentiable(lambda *heads: call(*heads)[0], (query, key, value))(mode)

    return provider
