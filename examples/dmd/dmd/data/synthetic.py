"""Sentiment-like sequences with a known answer: how much each modality knows of the label is chosen, not found."""

from collections.abc import Mapping

import numpy as np

from .mmsa import CLASSES
from .recordings import LABEL_RANGES, SPLITS, UNLABELLED, Recordings, Split, arrays_sha256

RELIABILITY = {"language": 0.9, "vision": 0.6, "acoustic": 0.3}
DIMS = {"language": 16, "vision": 8, "acoustic": 5}
STEPS = {"language": 12, "vision": 20, "acoustic": 30}


def synthetic(
    num_samples: tuple[int, int, int] = (192, 64, 64),
    *,
    reliability: Mapping[str, float] = RELIABILITY,
    dims: Mapping[str, int] | None = None,
    steps: Mapping[str, int] | None = None,
    task: str = "regression",
    absent: float = 0.05,
    unlabelled: float = 0.0,
    seed: int = 0,
) -> Recordings:
    r"""Draw recordings with a planted shared and a planted private signal.

    Every sample has a sentiment :math:`s \sim N(0, 1)`. Modality m sees it as a cue of known reliability
    :math:`r_m`, the correlation of cue and sentiment, along a fixed direction :math:`u_m` (shared signal); along a
    second direction :math:`v_m` it carries a style :math:`p_m` that no other modality has and that says nothing of
    the label (private signal); every step adds noise:

    .. math:: x_m(t) = (r_m s + \sqrt{1 - r_m^2}\, e_m)\, u_m + p_m \sin(2 \pi t / 8)\, v_m + n(t)

    with :math:`e_m, p_m, n \sim N(0, 1)` and :math:`u_m \perp v_m` of length 2. The label is :math:`1.5 s` clipped to
    [-3, 3], or for classification which third of N(0, 1) holds s. So the modality of the highest reliability is the
    best teacher.

    Args:
        num_samples: of train, valid and test.
        reliability: modality name -> correlation in [0, 1]; its keys name the modalities.
        dims: modality name -> width, at least 2; 8 where not given (16, 8, 5 for language, vision, acoustic).
        steps: modality name -> most steps, each sample has between half of them and all; 16 where not given
            (12, 20, 30 for language, vision, acoustic).
        task: "regression" or "classification" (negative, neutral, positive).
        absent: probability that a sample lacks a modality; it never lacks all.
        unlabelled: share of the train samples without a label.
        seed: the same seed draws the same recordings.

    Raises:
        ValueError: a reliability or a share outside [0, 1], a width below 2, no modality, or an unknown task.

    Example:
        >>> recordings = synthetic((8, 4, 4), reliability={"left": 0.9, "right": 0.1})
        >>> recordings.dims, recordings.sizes
        ({'left': 8, 'right': 8}, {'train': 8, 'valid': 4, 'test': 4})
    """
    names = list(reliability)
    dims = dict.fromkeys(names, 8) | DIMS | dict(dims or {})
    steps = dict.fromkeys(names, 16) | STEPS | dict(steps or {})
    if not names:
        raise ValueError("reliability must name at least one modality, got none")
    if task not in ("regression", "classification"):
        raise ValueError(f"task must be 'regression' or 'classification', got {task!r}")
    for what, value in [*reliability.items(), ("absent", absent), ("unlabelled", unlabelled)]:
        if not 0 <= value <= 1:
            raise ValueError(f"{what} must lie in [0, 1], got {value}")
    for name in names:
        if dims[name] < 2 or steps[name] < 1:
            raise ValueError(f"'{name}' needs at least 2 columns and 1 step, got {dims[name]} and {steps[name]}")

    generator = np.random.default_rng(seed)
    directions = {name: 2 * np.linalg.qr(generator.normal(size=(dims[name], 2)))[0] for name in names}  # (dim, 2)
    splits: dict[str, Split] = {}
    for split, size in zip(SPLITS, num_samples, strict=True):
        sentiment = generator.normal(size=size)
        is_present = _presence(generator, size, len(names), absent)  # (batch, node)
        inputs: dict[str, list[np.ndarray]] = {}
        for node, name in enumerate(names):
            r = reliability[name]
            cue = r * sentiment + np.sqrt(1 - r**2) * generator.normal(size=size)
            style = generator.normal(size=size)
            inputs[name] = []
            for i in range(size):
                num_steps = int(generator.integers((steps[name] + 1) // 2, steps[name] + 1))
                wave = np.sin(2 * np.pi * np.arange(num_steps) / 8)
                signal = np.stack([np.full(num_steps, cue[i]), style[i] * wave], axis=1)  # (time, 2)
                sequence = signal @ directions[name].T + generator.normal(size=(num_steps, dims[name]))  # (time, dim)
                inputs[name].append(sequence.astype(np.float32)[: num_steps * int(is_present[i, node])])
        labels = _labels(sentiment, task)
        if split == "train":
            hidden = generator.random(size) < unlabelled
            labels[hidden] = np.nan if task == "regression" else UNLABELLED
        splits[split] = Split([f"{split}{i:04d}" for i in range(size)], inputs, labels)
    metrics, classes = ("mosi", ()) if task == "regression" else ("accuracy", CLASSES)
    arrays = [array for part in splits.values() for modality in part.inputs.values() for array in modality]
    checksum = arrays_sha256([*arrays, *(part.labels for part in splits.values())])
    return Recordings(splits, task, metrics, classes, LABEL_RANGES[metrics], "synthetic", checksum)


def _presence(generator: np.random.Generator, size: int, num_nodes: int, absent: float) -> np.ndarray:
    is_present = generator.random((size, num_nodes)) >= absent
    kept = generator.integers(num_nodes, size=size)
    is_present[np.arange(size), kept] |= ~is_present.any(axis=1)
    return is_present


def _labels(sentiment: np.ndarray, task: str) -> np.ndarray:
    if task == "regression":
        return np.clip(1.5 * sentiment, -3, 3).astype(np.float32)
    return np.digitize(sentiment, [-0.4307, 0.4307]).astype(np.int64)  # the thirds of N(0, 1)
