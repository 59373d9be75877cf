"""What each process of test_global_losses.py does: the same step as one process on the whole batch, shared out."""

import copy

import torch
from dmd.baselines import Baseline, BaselineTask
from dmd.model import ModelConfig
from dmd.task import DistillationConfig, TaskConfig
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tests.example.small import DIMS, NAMES, classes_of, make_batch, make_model, make_task, take

# Some modalities are absent, one sample has none, and one has no label.
LENGTHS = ((5, 3, 4, 0, 2, 1, 6, 5), (4, 0, 6, 0, 3, 1, 2, 5), (9, 8, 2, 0, 0, 1, 7, 7))
LABELS = [-2.0, 1.0, -2.0, 1.0, float("nan"), 2.0, 1.0, -2.0]
SHARES = ((7, 1), (8, 0), (3, 3, 2), (4, 0, 4))  # rows of each process; of none, one stands for none
STEPPED = (("every loss", (7, 1)), ("classes", (4, 0, 4)))
TAUGHT = {"prior": [0.2, 0.1, 0.3, 0.1, 0.2, 0.1], "prior_weight": 3.0, "feature_distance": "l2"}


def dmd(distillation, objective=None, num_outputs=1, **options):
    model = make_model(num_outputs=num_outputs, dropout=0.0, **options)
    return make_task(model, distillation, **{"lambda_distillation": 1.0, "gamma": 1.0} | (objective or {}))


def mult():
    config = ModelConfig(dim=8, num_heads=2, num_layers=1, dropout=0.0)
    model = Baseline("mult", config, {name: DIMS[name] for name in NAMES}, 1)
    return BaselineTask(model, TaskConfig(lambda_distillation=1.0, distillation=DistillationConfig(**TAUGHT))).train()


TASKS = {
    "published": lambda: dmd({"normalize": "graph"}),
    "every loss": lambda: dmd({"scorer": "mlp", **TAUGHT}, {"proportional_margin": True, "orthogonality": "squared"}),
    "classes": lambda: dmd({"scorer": "agreement", **TAUGHT}, num_outputs=2, readout="attention"),
    "no decoupling": lambda: dmd({"scorer": "free", **TAUGHT}, feature_decoupling=False),
    "weights detached": lambda: dmd({"detach_weights": True}),
    "mult": mult,
}


def whole_batch(name, dtype=torch.float64, seed=0):
    batch = make_batch(lengths=LENGTHS, labels=LABELS, seed=seed)
    labels, inputs = batch.labels.to(dtype), {name: x.to(dtype) for name, x in batch.inputs.items()}
    batch = batch._replace(inputs=inputs, labels=labels)
    if name == "classes":
        batch = classes_of(batch)
        batch.labels[4] = -100
    return batch


def own_part(batch, share, rank):
    """The rows of one process; of none, a row that stands for none, with values that would show."""
    start, size = sum(share[:rank]), share[rank]
    if size:
        return take(batch, range(start, start + size))
    stand_in = take(batch, [0])
    return stand_in._replace(index=torch.tensor([-1]), inputs={name: x + 5 for name, x in stand_in.inputs.items()})


def scalars(out):
    return {name: x.item() for name, x in out.items() if isinstance(x, torch.Tensor) and x.dim() == 0}


def one_step(name, share, rank):
    """The largest difference of the gradients, of the loss and its terms, and of what is each process's own."""
    task = TASKS[name]().double()
    batch = whole_batch(name)
    alone = copy.deepcopy(task)
    wanted = alone(batch)
    wanted["loss"].backward()
    task.global_losses = True
    together = DistributedDataParallel(task, find_unused_parameters=name == "weights detached")
    out = together(own_part(batch, share, rank))
    out["loss"].backward()
    pairs = [(p.grad, q.grad) for p, q in zip(task.parameters(), alone.parameters())]
    assert all((p is None) == (q is None) or not q.any() for p, q in pairs)
    largest = max(float((p - q).abs().max()) for p, q in pairs if p is not None and q is not None)
    means = torch.tensor(list(scalars(out).values()), dtype=torch.float64)
    dist.all_reduce(means)
    apart = (means / len(share) - torch.tensor(list(scalars(wanted).values()), dtype=torch.float64)).abs().max()
    mine = slice(sum(share[:rank]), sum(share[: rank + 1]))
    for unit, weights in out["edges"].items():
        apart = max(apart, *(weights - wanted["edges"][unit][mine]).abs().flatten(), 0.0)
    if share[rank]:
        apart = max(apart, *(out["output"] - wanted["output"][mine]).abs().flatten())
    return {
        "gradient": largest,
        "outputs": apart.item(),
        "moves": max(float(q.abs().max()) for _, q in pairs if q is not None),
    }


def several_steps(name, share, rank, accumulation=2, steps=3):
    """The largest difference of float32 weights after steps of AdamW, each over several batches."""
    alone, task = TASKS[name](), TASKS[name]()
    task.global_losses = True
    together = DistributedDataParallel(task)
    start = [p.detach().clone() for p in alone.parameters()]
    # The biases of attention's keys have no gradient but rounding, which the usual epsilon makes a whole step of.
    optimizers = [torch.optim.AdamW(each.parameters(), lr=1e-3, eps=1e-4) for each in (alone, task)]
    for step in range(steps):
        for part in range(accumulation):
            batch = whole_batch(name, torch.float32, seed=accumulation * step + part)
            (alone(batch)["loss"] / accumulation).backward()
            together.require_backward_grad_sync = part == accumulation - 1
            (together(own_part(batch, share, rank))["loss"] / accumulation).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    moved = max(float((p - q).detach().abs().max()) for p, q in zip(start, alone.parameters()))
    apart = max(float((p - q).detach().abs().max()) for p, q in zip(task.parameters(), alone.parameters()))
    return {"weights": apart, "moves": moved}


def work(rank, folder):
    """All cases, in a world of two processes and then in one of three."""
    torch.set_num_threads(1)
    found = {}
    for size in (2, 3):
        if rank >= size:
            continue
        dist.init_process_group("gloo", init_method=f"file://{folder}/world-{size}", rank=rank, world_size=size)
        for share in (each for each in SHARES if len(each) == size):
            found |= {(name, share): one_step(name, share, rank) for name in TASKS}
        for name, share in STEPPED:
            if len(share) == size:
                found[name, share, "steps"] = several_steps(name, share, rank)
        dist.barrier()
        dist.destroy_process_group()
    torch.save(found, f"{folder}/{rank}.pt")
