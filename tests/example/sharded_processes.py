"""What each of two processes does for test_sharding.py: training with parameters sharded by FSDP2, and without."""

import copy

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import fully_shard

import gdkit.stacking
from gdkit import CrossmodalTransformer, DecoupledEncoder, GDUnit, MultimodalTransformer
from gdkit._testing import flat
from gdkit._transformer_layer import CrossmodalLayer
from tests.every_module import GRAPH, NAMES, nodes, sequences
from tests.example.several_processes import TASKS, own_part, whole_batch

UNITS = {"whole": (), "transformers": (CrossmodalTransformer,), "layers": (CrossmodalLayer,)}
UNITS["everything"] = (nn.Linear, nn.Conv1d, nn.LayerNorm)
SHARE = (5, 3)  # samples of a task's batch


def reinforced(module, batch):
    return module(sequences(batch, 8, 8, 8))


def crossed(module, batch):
    return {"crossed": module(torch.randn(batch, 5, 8), torch.randn(batch, 6, 8))}


def encoded(module, batch):
    return module(sequences(batch, 7, 3, 2))._asdict() | {"masks": {}}


def distilled(module, batch):
    return {"loss": module(nodes(batch, 3), nodes(batch, 5)).loss}


MODULES = {
    "MultimodalTransformer": (lambda: MultimodalTransformer(NAMES, 8, 2, 1, num_memory_layers=1), reinforced, UNITS),
    "CrossmodalTransformer": (lambda: CrossmodalTransformer(8, 2, 2), crossed, ("whole", "layers", "everything")),
    "DecoupledEncoder": (lambda: DecoupledEncoder(dict(zip(NAMES, (7, 3, 2))), 6), encoded, ("whole", "everything")),
} | {
    f"GDUnit {scorer}": (
        lambda scorer=scorer: GDUnit(GRAPH, 5, 3, 4, scorer=scorer, prior=[0.1] * 6, prior_weight=1.0),
        distilled,
        ("whole", "everything"),
    )
    for scorer in ("linear", "mlp", "free")
}


def shard(module, kinds):
    """Each part of these kinds by itself, and the rest together."""
    for part in [*module.modules()]:
        if isinstance(part, kinds) and part is not module:
            fully_shard(part)
    return fully_shard(module)


def adamw(module):
    return torch.optim.AdamW(module.parameters(), lr=1e-3, eps=1e-3)


def largest_difference(sharded, whole):
    """Of the parameters."""
    pairs = zip(sharded.parameters(), whole.parameters(), strict=True)
    return max(float((p.full_tensor() - q).detach().abs().max()) for p, q in pairs)


def train_module(make, call, kinds, rank, steps=2):
    """The largest difference of the weights after some steps, of batches of which each process has one half."""
    whole = make()
    sharded = shard(copy.deepcopy(whole), kinds)
    optimizers = adamw(whole), adamw(sharded)
    start = copy.deepcopy(whole)

    def loss(module, step, part):
        torch.manual_seed(10 * step + part)
        return sum(x.square().mean() for x in flat(call(module, 3)).values())

    for step in range(steps):
        loss(sharded, step, rank).backward()
        (sum(loss(whole, step, part) for part in range(2)) / 2).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    moves = max(float((p - q).detach().abs().max()) for p, q in zip(start.parameters(), whole.parameters()))
    return {"weights": largest_difference(sharded, whole), "moves": moves}


def train_task(kinds, rank, folder, steps=2):
    """The same of a whole task with global losses and its checkpoints, against one process with the whole batch."""
    alone = TASKS["every loss"]()
    task = copy.deepcopy(alone)
    task.global_losses = True
    start = copy.deepcopy(alone)
    shard(task, kinds)
    optimizers = adamw(alone), adamw(task)
    for step in range(steps):
        batch = whole_batch("every loss", torch.float32, seed=step)
        alone(batch)["loss"].backward()
        task(own_part(batch, SHARE, rank))["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    result = {"weights": largest_difference(task, alone)}
    result["moves"] = max(float((p - q).detach().abs().max()) for p, q in zip(start.parameters(), alone.parameters()))

    options = StateDictOptions(full_state_dict=True)
    full = get_model_state_dict(task, options=options)
    unsharded = TASKS["every loss"]()
    assert full.keys() == unsharded.state_dict().keys()
    unsharded.load_state_dict(full)
    result["full"] = largest_difference(task, unsharded)
    again = shard(TASKS["every loss"](), ())
    set_model_state_dict(again, full, options=options)
    result["full, sharded otherwise"] = largest_difference(again, unsharded)

    checkpoint.save({"model": get_model_state_dict(task)}, checkpoint_id=folder)
    again = shard(TASKS["every loss"](), UNITS["layers"])
    state = {"model": get_model_state_dict(again)}
    checkpoint.load(state, checkpoint_id=folder)
    set_model_state_dict(again, state["model"])
    result["parts, sharded otherwise"] = largest_difference(again, unsharded)
    return result


def work(rank, folder):
    """All cases."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/world", rank=rank, world_size=2)
    found = {}
    for name, (make, call, ways) in MODULES.items():
        for way in ways:
            for stacked in (False, True) if (name, way) == ("MultimodalTransformer", "whole") else (True,):
                gdkit.stacking._pays = lambda x, stacked=stacked: stacked
                torch.manual_seed(0)
                found[name, way, stacked] = train_module(make, call, UNITS[way], rank)
    gdkit.stacking._pays = lambda x: True
    for way in ("whole", "transformers"):
        found["task", way] = train_task(UNITS[way], rank, f"{folder}/{way}")
    dist.barrier()
    dist.destroy_process_group()
    torch.save(found, f"{folder}/{rank}.pt")
