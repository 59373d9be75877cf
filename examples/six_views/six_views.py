"""Six small networks, each seeing one view of the same digits, teach each other with few labels and many samples.

Of the 2,000 digits 1,000 are for the test. Of the others 160 have a label: 100 (10 %) train in every row; 60 train too,
or are held out for validation for a share of the steps, where they tell how good a teacher each network is.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from gdkit import DistillationGraph, GDUnit
from gdkit.plot import edge_heatmap

VIEWS = ("fac", "fou", "kar", "mor", "pix", "zer")
GRAPH = DistillationGraph.complete(VIEWS)
SHARPNESS = 16.0  # of the quality: too soft drags every view to the mean, too sharp listens to a single one
# Options of the GDUnit; factor of its loss, so that weights sum to 6; share of the steps that hold the 60 labels out.
ROWS: dict[str, tuple[dict | None, float, float]] = {
    "alone": (None, 0.0, 0.0),
    "Eq. 9 as printed": ({"scorer": "linear", "normalize": "graph"}, 6.0, 0.0),
    "per target": ({"scorer": "linear", "normalize": "target"}, 1.0, 0.0),
    "agreement": ({"scorer": "agreement", "normalize": "graph"}, 6.0, 0.0),  # reads no labels: take it first
    "quality": ({"scorer": None, "normalize": "graph"}, 6.0, 1.0),
    "quality, then all labels": ({"scorer": None, "normalize": "graph"}, 6.0, 0.5),
}


def load_digits() -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """The views, standardised without a look at the test samples; the labels; which samples train and which test."""
    packed = np.load(Path(__file__).parent / "assets" / "digits.npz")
    test, rest = np.split(np.random.default_rng(0).permutation(len(packed["labels"])), [1000])
    inputs: dict[str, Tensor] = {}
    for name in VIEWS:
        values = packed[name] * packed[f"{name}_scale"] + packed[f"{name}_low"]
        inputs[name] = torch.from_numpy((values - values[rest].mean(0)) / (values[rest].std(0) + 1e-8)).float()
    return inputs, torch.from_numpy(packed["labels"]).long(), torch.from_numpy(rest), torch.from_numpy(test)


class Network(nn.Module):
    """One hidden layer; gives its features, which a learned scorer reads, and the logits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(width, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.hidden(x).relu()  # (batch, 64)
        return features, self.output(features)  # (batch, 10)


def train(
    inputs: dict[str, Tensor], labels: Tensor, samples: Tensor, row: str, seed: int, steps: int
) -> tuple[nn.ModuleDict, Tensor]:
    """The six networks after training, and the mean weight of every edge in the last step."""
    torch.manual_seed(seed)
    first, validation, unlabelled = samples[torch.randperm(len(samples))].split([100, 60, len(samples) - 160])
    networks = nn.ModuleDict({name: Network(x.shape[1]) for name, x in inputs.items()})
    options, factor, held_out = ROWS[row]
    unit = None if options is None else GDUnit(GRAPH, 64, 10, distance="kl", distance_temperature=2.0, **options)
    optimizer = torch.optim.Adam([*networks.parameters(), *(unit.parameters() if unit else ())], lr=2e-3)
    quality, weights = None, torch.zeros(GRAPH.num_edges)
    for step in range(steps):
        measure = step < held_out * steps
        labelled = first if measure else torch.cat([first, validation])
        batch = torch.cat([labelled, unlabelled[torch.randint(len(unlabelled), (128,))]])
        outputs = {name: network(inputs[name][batch]) for name, network in networks.items()}
        loss = torch.stack([F.cross_entropy(z[: len(labelled)], labels[labelled]) for _, z in outputs.values()]).sum()
        if measure:
            logits = [network(inputs[name][validation])[1].detach() for name, network in networks.items()]
            quality = torch.stack([-SHARPNESS * F.cross_entropy(z, labels[validation]) for z in logits])  # (node,)
        if unit is not None:  # it needs no labels, so it reads every sample of the batch
            features, logits = (torch.stack(parts, dim=1) for parts in zip(*outputs.values(), strict=True))
            out = unit(logits, features, teacher_quality=quality)
            loss = loss + factor * out.loss
            weights = out.weights.detach().mean(0)  # (edge,)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return networks, weights


@torch.no_grad()
def accuracy(networks: nn.ModuleDict, inputs: dict[str, Tensor], labels: Tensor, samples: Tensor) -> Tensor:
    """Share of the samples that each network classifies rightly, (node,)."""
    guesses = [network(inputs[name][samples])[1].argmax(1) for name, network in networks.items()]
    return torch.stack([(guess == labels[samples]).float().mean() for guess in guesses])


def main() -> None:
    """Train every row with every seed, print the table, draw who taught whom."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("who_taught_whom.png"), help="the picture")
    arguments = parser.parse_args()
    if arguments.steps < 1 or not arguments.out.parent.is_dir():
        parser.error(f"--steps must be at least 1, got {arguments.steps}; --out in a folder, got {arguments.out}")
    torch.set_num_threads(1)  # these matrices are small, and so the figures are the same on any number of cores
    inputs, labels, samples, test = load_digits()
    print("| row |", " | ".join(VIEWS), "| mean |\n|" + "---|" * (len(VIEWS) + 2))
    taught: dict[str, Tensor] = {}
    for row in ROWS:
        runs = [train(inputs, labels, samples, row, seed, arguments.steps) for seed in arguments.seeds]
        scores = torch.stack([accuracy(networks, inputs, labels, test) for networks, _ in runs])  # (seed, node)
        scores = torch.cat([scores, scores.mean(1, keepdim=True)], dim=1)  # (seed, node + 1)
        print(f"| {row}", *(f"{x.mean():.3f} ± {x.std(correction=len(x) > 1):.3f}" for x in scores.T), "", sep=" | ")
        taught[row] = torch.stack([weights for _, weights in runs]).mean(0)
    figure = Figure(figsize=(15, 8.2), layout="constrained")
    for row, ax in figure.subplot_mosaic([[*ROWS][1:4], [*[*ROWS][4:], "."]]).items():
        edge_heatmap(GRAPH, taught[row] / taught[row].sum(), ax=ax, title=row)
    figure.savefig(arguments.out, dpi=80)


if __name__ == "__main__":
    main()
