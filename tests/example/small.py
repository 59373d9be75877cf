"""Small networks, batches and recordings of the DMD example, for its tests."""

from itertools import product

import numpy as np
import torch
from dmd.data import Batch, Split, collate
from dmd.model import DMD, ModelConfig
from dmd.task import DistillationConfig, DMDTask, TaskConfig

DIMS = {"language": 6, "vision": 4, "acoustic": 3, "pulse": 2}
NAMES = tuple(DIMS)[:3]
SWITCHES = ("feature_decoupling", "homo_gd", "cross_attention", "hetero_gd")  # the columns of the paper's Table 3
ABLATIONS = [dict(zip(SWITCHES, values)) for values in product([True, False], repeat=4)]


def switched_off(ablation):
    """What names an ablation in a test's name."""
    return "no " + ", ".join(name for name, is_on in ablation.items() if not is_on)


def make_model(names=NAMES, num_outputs=1, **options):
    """A network in evaluation mode, the same in every call."""
    torch.manual_seed(0)
    config = ModelConfig(**{"dim": 8, "num_heads": 2, "num_layers": 1, "kernel_size": 3} | options)
    return DMD(config, {name: DIMS[name] for name in names}, num_outputs).eval()


def make_task(model=None, distillation=None, **options):
    """A network with its objective, in training mode."""
    model = model or make_model(dropout=0.0)
    return DMDTask(model, TaskConfig(**options, distillation=DistillationConfig(**distillation or {}))).train()


def make_batch(names=NAMES, lengths=((5, 3, 4, 6), (4, 7, 6, 5), (9, 8, 2, 7), (3, 3, 3, 3)), labels=None, seed=0):
    """Four samples, as lengths says (one row a modality, 0 = absent); their labels are spread where none are given."""
    generator = np.random.default_rng(seed)
    inputs = {
        name: [generator.normal(size=(steps, DIMS[name])).astype(np.float32) for steps in row]
        for name, row in zip(names, lengths)
    }
    size = len(lengths[0])
    labels = np.float32([-2, 1, -2, 1][:size]) if labels is None else np.asarray(labels)
    return collate(Split([str(i) for i in range(size)], inputs, labels), list(range(size)))


def classes_of(batch):
    """The same batch with class labels."""
    return batch._replace(labels=(batch.labels > 0).long())


def take(batch, positions):
    """Some samples of a batch, padded as they are."""
    positions = torch.tensor(positions)
    picked = ({name: x[positions] for name, x in part.items()} for part in (batch.inputs, batch.masks))
    return Batch(*picked, batch.labels[positions], batch.index[positions])
