"""Hugging Face Trainer: text and acoustics teach each other; a mixin adds the distillation loss and logs the edges."""

import torch
from torch import nn
from transformers import BertConfig, BertModel, Trainer, TrainingArguments

from gdkit import DistillationGraph, GDUnit


class DistillationMixin:
    """For a Trainer whose model returns, in training, ``distillation`` (scalar) and ``edges`` (batch, edge)."""

    def __init__(self, *args, distillation_weight: float = 1.0, **options) -> None:
        super().__init__(*args, **options)
        self.distillation_weight, self.parts = distillation_weight, {}

    def compute_loss(self, model, inputs, return_outputs=False, **options):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **options)
        if "distillation" in outputs:  # in evaluation the loss is the task's alone
            self.parts = {"task": loss.detach(), "distillation": outputs["distillation"].detach()}
            edges = self.accelerator.unwrap_model(model).teaching.graph.edges
            weights = outputs["edges"].detach().mean(0)  # (edge,)
            self.parts |= {f"{source} to {target}": w for (source, target), w in zip(edges, weights)}
            loss = loss + self.distillation_weight * outputs["distillation"]
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, *args, **options):
        parts = {name: round(part.item(), 4) for name, part in self.parts.items()} if "loss" in logs else {}
        super().log(logs | parts, *args, **options)


class GDTrainer(DistillationMixin, Trainer):
    """A Trainer that distils."""


class TextAndSound(nn.Module):
    """A text encoder and a network for the acoustics. The unit is a part of the model: trained and saved with it."""

    def __init__(self, config: BertConfig, classes: int = 2) -> None:
        super().__init__()
        self.bert, self.acoustic = BertModel(config), nn.Sequential(nn.Linear(5, config.hidden_size), nn.Tanh())
        self.heads = nn.ModuleDict({name: nn.Linear(config.hidden_size, classes) for name in ("language", "acoustic")})
        self.teaching = GDUnit(DistillationGraph.complete(self.heads), config.hidden_size, classes, distance="kl")

    def forward(self, input_ids, attention_mask, acoustic, labels=None):
        states = self.bert(input_ids, attention_mask).pooler_output  # (batch, dim)
        features = {"language": states, "acoustic": self.acoustic(acoustic)}
        logits = {name: head(features[name]) for name, head in self.heads.items()}
        outputs = {"logits": torch.stack([*logits.values()]).mean(0)}
        if labels is not None:
            outputs["loss"] = sum(nn.functional.cross_entropy(z, labels) for z in logits.values())
        if self.training:
            out = self.teaching(logits, features)
            outputs |= {"distillation": out.loss, "edges": out.weights}
        return outputs


def draw(index: int) -> dict[str, torch.Tensor]:
    """A stand-in for a sample: the label shows in the first token and, less well, in the sound."""
    label, generator = index % 2, torch.Generator().manual_seed(index)
    ids = torch.randint(3, 50, (6,), generator=generator)
    ids[0] = 1 + label
    sound = torch.randn(5, generator=generator) + label
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "acoustic": sound, "labels": torch.tensor(label)}


config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
options = TrainingArguments(
    "runs/trainer", num_train_epochs=4, per_device_train_batch_size=16, learning_rate=3e-3, logging_steps=8,
    save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, seed=0,
)  # fmt: skip
data = [draw(index) for index in range(64)]
torch.manual_seed(0)  # of the weights; the Trainer seeds what follows
model = TextAndSound(config)
trainer = GDTrainer(model, options, train_dataset=data, eval_dataset=data, distillation_weight=0.5)
trainer.train()
print({name: round(value, 3) for name, value in trainer.evaluate().items()})
