"""The paper's numbers (arXiv 2303.13802), in percent there and as shares here, by data set, table and variant."""

from __future__ import annotations

from ..data import Recordings

SIZES = {"mosi": (1284, 229, 686), "mosei": (16326, 1871, 4659)}  # train, valid, test

# Values in the order of METRICS; None: the paper does not say.
METRICS = ("acc7", "acc2_neg_pos", "f1_neg_pos")
Numbers = tuple[float | None, float | None, float | None]

_MAIN = {
    "mosi": {"aligned": (41.4, 84.5, 84.4), "aligned, BERT": (45.6, 86.0, 86.0), "unaligned": (41.9, 83.5, 83.5)},
    "mosei": {"aligned": (53.7, 85.0, 84.9), "aligned, BERT": (54.5, 86.6, 86.6), "unaligned": (54.6, 84.8, 84.7)},
}
_ABLATIONS: dict[str, dict[str, Numbers]] = {
    "mosi": {
        "full": (41.9, None, 83.5),
        "no-hetero-gd": (38.8, None, 81.1),
        "no-ca": (37.5, None, 80.6),
        "no-ca-heterogd": (37.2, None, 80.8),
        "no-homogd-ca-heterogd": (34.7, None, 79.3),
        "no-fd-homogd-ca-heterogd": (32.4, None, 79.0),
    },
    "mosei": {
        "full": (54.6, None, 84.7),
        "no-hetero-gd": (53.2, None, 84.1),
        "no-ca": (52.4, None, 83.8),
        "no-ca-heterogd": (52.4, None, 84.3),
        "no-homogd-ca-heterogd": (51.6, None, 82.8),
        "no-fd-homogd-ca-heterogd": (50.0, None, 81.9),
    },
}
_ALONE: dict[str, Numbers] = {
    "no-fd-only-language": (None, 81.2, None),
    "only-language": (None, 82.7, None),
    "no-fd-only-vision": (None, 58.2, None),
    "only-vision": (None, 62.8, None),
    "no-fd-only-acoustic": (None, 53.4, None),
    "only-acoustic": (None, 64.9, None),
}
_MULT: dict[str, dict[str, Numbers]] = {
    "mosi": {"mult": (39.1, 81.1, 81.0), "mult-gd": (39.4, 82.2, 82.2)},
    "mosei": {"mult": (50.7, 81.6, 81.6), "mult-gd": (51.0, 82.3, 82.5)},
}


def recognise(recordings: Recordings) -> str | None:
    """ "mosi" or "mosei" where the splits have the paper's sizes, or the file is called so; None: neither."""
    sizes = tuple(recordings.sizes.values())
    by_size = [name for name, size in SIZES.items() if size == sizes]
    if by_size or recordings.metrics != "mosi":
        return by_size[0] if by_size else None
    named = [name for name in ("mosei", "mosi") if name in recordings.path.lower()]
    return named[0] if named else None


def paper_numbers(what: str, dataset: str | None, variant: str) -> dict[str, Numbers]:
    """What the paper says of a variant, by setting ("" where it names none); empty where it says nothing."""
    if what in ("table1", "table2"):
        of = {"table1": "mosi", "table2": "mosei"}[what]
        return dict(_MAIN[of]) if of == dataset and variant == "full" else {}
    tables = {"table3": _ABLATIONS.get(dataset or ""), "table4": _ALONE if dataset == "mosei" else None}
    tables["table5"] = _MULT.get(dataset or "")
    found = (tables.get(what) or {}).get(variant)
    return {} if found is None else {"": found}


def comparability(what: str, dataset: str | None, recordings: Recordings) -> list[str]:
    """How far the paper's numbers and ours are of the same thing, in sentences."""
    if dataset is None:
        return []
    of = {"table1": "mosi", "table2": "mosei", "table4": "mosei"}.get(what, dataset)
    if of != dataset:
        return [f"The paper's numbers of this table are of {of.upper()}, the data is {dataset.upper()}: ours only."]
    sizes = tuple(recordings.sizes.values())
    if what in ("table1", "table2", "table3", "table4", "table5") and sizes != SIZES[dataset]:
        wanted, got = ("/".join(map(str, size)) for size in (SIZES[dataset], sizes))
        return [f"The paper's splits have {wanted} samples, these {got}: the numbers are not of the same test."]
    return []
