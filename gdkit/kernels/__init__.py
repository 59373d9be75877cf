"""Fused attention for small heads on CUDA, in Triton; reachable only through :mod:`gdkit.attention`.

Importing this needs no Triton: it is imported at the first call.
"""

from gdkit.kernels._operator import fused_attention

__all__ = ["fused_attention"]
