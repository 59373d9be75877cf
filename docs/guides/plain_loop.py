"""Three networks that see different views of a sample learn together, in a plain PyTorch loop."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gdkit import DistillationGraph, GDUnit

VIEWS = {"language": 20, "vision": 12, "acoustic": 8}  # columns of each
CLASSES, UNLABELLED = 4, -100
WEIGHT = 1.0  # of the distillation; 0: each network learns alone


def draw(samples: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """A stand-in for your data: views of the same classes, each with less to see than the one before."""
    labels = torch.arange(samples) % CLASSES
    generator = torch.Generator().manual_seed(7)  # the classes are the same in every call
    clarity = zip((1.0, 0.6, 0.3), VIEWS.values())
    means = [strength * torch.randn(CLASSES, width, generator=generator) for strength, width in clarity]
    return [mean[labels] + torch.randn(samples, mean.shape[1]) for mean in means], labels


class Network(nn.Module):
    """One view: its features, and its own prediction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(width, 32), nn.Linear(32, CLASSES)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.hidden(x).relu()  # (batch, 32)
        return features, self.output(features)  # (batch, class)


torch.manual_seed(0)
inputs, labels = draw(1024)
labels[40:] = UNLABELLED  # 40 labels; the GD-Unit needs none
loader = DataLoader(TensorDataset(*inputs, labels), batch_size=128, shuffle=True)
networks = nn.ModuleDict({name: Network(width) for name, width in VIEWS.items()})
unit = GDUnit(DistillationGraph.complete(VIEWS), feature_dim=32, logit_dim=CLASSES, scorer="agreement", distance="kl")
optimizer = torch.optim.AdamW([*networks.parameters(), *unit.parameters()], lr=3e-3)  # a learned scorer trains along

for _ in range(30):
    for *views, target in loader:
        outputs = {name: network(x) for (name, network), x in zip(networks.items(), views)}
        features, logits = ({name: pair[i] for name, pair in outputs.items()} for i in (0, 1))
        losses = [F.cross_entropy(z, target, ignore_index=UNLABELLED, reduction="sum") for z in logits.values()]
        distilled = unit(logits, features)
        loss = sum(losses) / (target != UNLABELLED).sum().clamp(min=1) + WEIGHT * distilled.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

inputs, labels = draw(1000)
for (name, network), x in zip(networks.items(), inputs):
    print(f"{name:10} {(network(x)[1].argmax(1) == labels).float().mean():.3f}")
for (source, target), weight in zip(unit.graph.edges, distilled.weights.detach().mean(0).tolist()):
    print(f"{source} teaches {target}: {weight:.2f}")
