"""Attention in float64 with all weights in memory, and what lengths, masks and bands hide."""

import torch


def plain(query, key, value, shown, keep=None, gain=1.0):
    """Attention in float64 with every mask given; a row that sees nothing gives zeros."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    sees = shown.any(dim=-1, keepdim=True)
    weights = torch.where(sees, scores.masked_fill(~(shown | ~sees), -torch.inf).softmax(dim=-1), 0.0)
    return (weights if keep is None else weights * keep * gain) @ value


def shown_pairs(
    batch, num_queries, num_keys, key_lengths=None, query_lengths=None, key_mask=None, band=None, device="cpu"
):
    """True where a query sees a key, (batch, 1, query, key)."""
    i, j = torch.arange(num_queries, device=device)[:, None], torch.arange(num_keys, device=device)
    shown = torch.ones(batch, 1, num_queries, num_keys, dtype=torch.bool, device=device)
    if key_lengths is not None:
        shown = shown & (j < key_lengths[:, None, None, None])
    if query_lengths is not None:
        shown = shown & (i < query_lengths[:, None, None, None])
    if key_mask is not None:
        shown = shown & key_mask[:, None, None, :]
    if band is not None:
        shown = shown & (j - i <= (band[:, None, None, None] if isinstance(band, torch.Tensor) else band))
    return shown
