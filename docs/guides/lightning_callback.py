"""Lightning: a module that holds a GD-Unit, and a callback that logs who teaches whom."""

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gdkit import DistillationGraph, GDUnit


class LogEdges(L.Callback):
    """Logs the mean weight of every edge of every GDUnit in the module, by name, once an epoch."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        units = [(name, part) for name, part in pl_module.named_modules() if isinstance(part, GDUnit)]
        self.units, self.seen = dict(units), {name: [] for name, _ in units}
        self.hooks = [unit.register_forward_hook(self.remember(name)) for name, unit in units]

    def remember(self, name: str):
        def hook(unit, inputs, out):
            if unit.training:
                self.seen[name].append(out.weights.detach().mean(0))  # (edge,); stays on its device

        return hook

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name, unit in self.units.items():
            if not self.seen[name]:  # it had no part in this epoch
                continue
            means = torch.stack(self.seen[name]).mean(0)
            pl_module.log_dict({f"{name}/{i} to {j}": w for (i, j), w in zip(unit.graph.edges, means)}, sync_dist=True)
            self.seen[name].clear()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for hook in self.hooks:
            hook.remove()


class TwoSensors(L.LightningModule):
    """Two sensors, a network each; the unit is a part of the module, so it is trained and saved with it."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: nn.Linear(6, 3) for name in ("accelerometer", "gyroscope")})
        self.teaching = GDUnit(DistillationGraph.complete(self.networks), feature_dim=6, logit_dim=3, distance="kl")

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        features, labels = dict(zip(self.networks, batch)), batch[-1]
        logits = {name: network(features[name]) for name, network in self.networks.items()}
        task = torch.stack([F.cross_entropy(z, labels) for z in logits.values()]).sum()
        distillation = self.teaching(logits, features).loss
        self.log_dict({"task": task, "distillation": distillation}, on_step=False, on_epoch=True)
        return task + 0.5 * distillation

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


L.seed_everything(0)
labels = torch.arange(256) % 3
data = TensorDataset(*(2 * torch.eye(6)[labels] + torch.randn(256, 6) for _ in range(2)), labels)
logger = CSVLogger("runs", name="lightning")
trainer = L.Trainer(max_epochs=3, accelerator="cpu", callbacks=LogEdges(), logger=logger, log_every_n_steps=4)
trainer.fit(TwoSensors(), DataLoader(data, batch_size=64, shuffle=True))
for name, value in sorted(trainer.callback_metrics.items()):
    print(f"{name:40} {value:.3f}")
