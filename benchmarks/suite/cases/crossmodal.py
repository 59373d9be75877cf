"""Crossmodal transformers: one pair of sequences, and three nodes that all reinforce each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from benchmarks.suite.cases.attention import attention_work
from benchmarks.suite.cases.stock_transformer import StockMultimodal, stock_copy
from benchmarks.suite.point import MODES, Point, Settings, Work, by_mode, differentiable
from gdkit import CrossmodalTransformer, MultimodalTransformer

NAMES = ("language", "vision", "acoustic")
STOCK = "nn.MultiheadAttention"
PAIRS = ((50, 50), (371, 496), (496, 371))
TRIPLES = {"aligned": (50, 50, 50), "unaligned": (46, 496, 371)}  # after the published convolutions
CPU_SCORES = 2_500_000  # a layer, at most, or a single sample


def transformer_work(
    batch: int, heads: int, num_queries: int, num_keys: int, dim: int, layers: int, band: int | None
) -> dict[str, Work]:
    """Projections, attention and feed-forward network of all layers; both sequences and the result moved once."""
    linear = 2 * batch * dim * dim * ((2 + 8) * num_queries + 2 * num_keys)
    attention = attention_work(batch, heads, num_queries, num_keys, dim // heads, band)
    moved = {"forward": 4 * batch * dim * (2 * num_queries + num_keys)}
    moved["backward"] = moved["forward"] + 4 * batch * dim * num_keys
    found = {
        mode: Work(layers * (factor * linear + attention[mode].flops), layers * attention[mode].exponentials, bytes_)
        for (mode, bytes_), factor in zip(moved.items(), (1, 2))
    }
    return by_mode(**found)


def batch_for(settings: Settings, scores: int) -> int:
    """The batch, smaller on a CPU where sequences are long."""
    batch = 2 if settings.quick else 16
    return max(1, min(batch, CPU_SCORES // scores)) if settings.device == "cpu" else batch


def pair_points(settings: Settings, dim: int, heads: int, layers: int) -> Iterator[Point]:
    """One :class:`gdkit.CrossmodalTransformer` over lengths, with and without band and attention dropout."""
    pairs = ((7, 9),) if settings.quick else PAIRS
    for dropout, has_band in ((0.0, False), (0.1, True)):
        for num_queries, num_keys in pairs:
            batch = batch_for(settings, heads * num_queries * num_keys)
            band = abs(num_keys - num_queries) if has_band else None
            ours = CrossmodalTransformer(dim, heads, layers, attention_dropout=dropout, band=band).to(settings.device)
            x = [torch.randn(batch, time, dim, device=settings.device) for time in (num_queries, num_keys)]
            modules: dict[str, nn.Module] = {STOCK: stock_copy(ours), "gdkit": ours}
            providers = {name: differentiable(m, x, [*m.parameters()]) for name, m in modules.items()}
            sizes = {"batch": batch, "heads": heads, "layers": layers, "dim": dim, "dropout": dropout}
            sizes |= {"queries": num_queries, "keys": num_keys, "band": "none" if band is None else band}
            work = transformer_work(batch, heads, num_queries, num_keys, dim, layers, band)
            sweep = f"CrossmodalTransformer, {'dropout 0.1, band' if has_band else 'no dropout, no band'}"
            yield Point(sweep, f"{num_queries}x{num_keys}", sizes, providers, STOCK, work)


def on_tensors(module: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]) -> Callable[..., Tensor]:
    """Mappings as one row of numbers, of which there is one gradient."""

    def call(*features: Tensor) -> Tensor:
        reinforced = module(dict(zip(NAMES, features)))
        return torch.cat([reinforced[name].flatten() for name in NAMES])

    return call


def node_points(settings: Settings, dim: int, heads: int, layers: int) -> Iterator[Point]:
    """:class:`gdkit.MultimodalTransformer` at the two lengths of MOSI, without dropout or band."""
    for setting, times in {"aligned": (5, 5, 5)}.items() if settings.quick else TRIPLES.items():
        batch = batch_for(settings, heads * max(times) * sorted(times)[1])
        ours = MultimodalTransformer(NAMES, dim, heads, layers).to(settings.device)
        x = [torch.randn(batch, time, dim, device=settings.device) for time in times]
        modules: dict[str, nn.Module] = {STOCK: StockMultimodal(ours), "gdkit": ours}
        providers = {name: differentiable(on_tensors(m), x, [*m.parameters()]) for name, m in modules.items()}
        work = dict.fromkeys(MODES, Work())
        for i, j in ((i, j) for i in range(3) for j in range(3) if i != j):
            of_pair = transformer_work(batch, heads, times[i], times[j], dim, layers, None)
            work = {mode: work[mode] + of_pair[mode] for mode in MODES}
        sizes = {"batch": batch, "heads": heads, "layers": layers, "dim": dim, "dropout": 0.0}
        sizes |= {"steps": "/".join(map(str, times)), "band": "none"}
        yield Point("MultimodalTransformer", setting, sizes, providers, STOCK, work)


def points(settings: Settings) -> Iterator[Point]:
    """Both, at the published sizes: 50 wide, ten heads, four layers."""
    size = (10, 2, 2) if settings.quick else (50, 10, 4)
    yield from pair_points(settings, *size)
    yield from node_points(settings, *size)
