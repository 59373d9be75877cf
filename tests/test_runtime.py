"""What every public module promises in use: compile, export, copies, dtypes, transforms, gradients, and its imports."""

import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import gdkit
from gdkit._testing import flat, on_each
from tests.every_module import CASES, assert_same, build, cast, gradients, total

EVERY = pytest.mark.parametrize("name", CASES)
LEARNED = pytest.mark.parametrize("name", [name for name, case in CASES.items() if list(case.make().parameters())])
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
A_FEW = pytest.mark.parametrize(
    "name", ["GDUnit mlp target", "CrossmodalTransformer cross", "DecoupledEncoder valid", "TripletMarginLoss round"]
)


def test_the_table_holds_every_public_module():
    public = {value for value in vars(gdkit).values() if isinstance(value, type) and issubclass(value, nn.Module)}
    assert public == {type(case.make()) for case in CASES.values()}


def check_compiled(name, backend, device="cpu"):
    """One graph without a break, with the same results and gradients."""
    module, inputs = build(name)
    module, inputs = module.to(device), [on_each(lambda x: x.to(device), given) for given in inputs]
    torch.compiler.reset()
    out, wanted = torch.compile(module, fullgraph=True, backend=backend)(*inputs), module(*inputs)
    assert_same(out, wanted)
    assert_same(gradients(module, out), gradients(module, wanted), 1e-4)


@EVERY
def test_compile_without_a_graph_break(name):
    check_compiled(name, "aot_eager")


@pytest.mark.slow
@A_FEW
def test_compile_by_inductor(name):
    check_compiled(name, "inductor")


@pytest.mark.gpu
@NEEDS_CUDA
@A_FEW
def test_compile_by_inductor_on_cuda(name):
    check_compiled(name, "inductor", "cuda")


@EVERY
def test_export_with_a_dynamic_batch(name):
    module, inputs = build(name)
    batch = torch.export.Dim("batch", min=2, max=1024)
    shapes = tuple(on_each(lambda _: {0: batch}, given) for given in inputs)
    program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    for size in (4, 7):
        module, inputs = build(name, size)
        assert_same(program.module()(*inputs), module(*inputs))


@EVERY
def test_copies_and_pickles_compute_the_same(name):
    module, inputs = build(name)
    wanted = module(*inputs)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert_same(other(*inputs), wanted, 0)
        assert not {id(p) for p in other.parameters()} & {id(p) for p in module.parameters()}


@EVERY
def test_a_state_dict_brings_everything_back(name):
    module, inputs = build(name)
    torch.manual_seed(1)
    other = CASES[name].make()
    other.load_state_dict(module.state_dict())
    assert_same(other(*inputs), module(*inputs), 0)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(name, dtype):
    module, inputs = build(name)
    wanted = module(*inputs)
    out = module.to(dtype)(*cast(dtype, inputs))
    assert {value.dtype for value in flat(out).values()} <= {dtype, torch.bool}
    assert_same(out, wanted, 1e-5 if dtype == torch.float64 else 0.1)
    assert all(gradient.isfinite().all() for gradient in gradients(module, out).values())


def check_autocast(name, device):
    module, inputs = build(name)
    module, inputs = module.to(device), [on_each(lambda x: x.to(device), given) for given in inputs]
    wanted = module(*inputs)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = module(*inputs)
    assert_same(out, wanted, 0.1)
    for gradient in gradients(module, out).values():
        assert gradient.dtype == torch.float32
        assert gradient.isfinite().all()


@EVERY
def test_autocast(name):
    check_autocast(name, "cpu")


@EVERY
def test_autocast_of_inputs_in_16_bits(name):
    module, inputs = build(name)
    wanted = module(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(module(*cast(torch.bfloat16, inputs)), wanted, 0.1)


@pytest.mark.gpu
@NEEDS_CUDA
@EVERY
def test_autocast_on_cuda(name):
    check_autocast(name, "cuda")


@pytest.mark.gpu
@NEEDS_CUDA
@EVERY
def test_cuda_computes_what_the_cpu_does(name):
    module, inputs = build(name)
    out = module(*inputs)
    wanted = gradients(module, out)
    on_cuda = copy.deepcopy(module).cuda()
    got = on_cuda(*(on_each(lambda x: x.cuda(), given) for given in inputs))
    assert {value.device.type for value in flat(got).values()} == {"cuda"}
    assert_same(on_each(lambda x: x.cpu(), flat(got)), flat(out), 1e-4)
    assert_same(on_each(lambda x: x.cpu(), gradients(on_cuda, got)), wanted, 1e-3)


@LEARNED
# PyTorch has no batching rule for some fused kernels, and says that a loop takes its place.
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_several_parameter_sets_at_once(name):
    module, inputs = build(name)
    models = [copy.deepcopy(module) for _ in range(3)]
    for factor, model in enumerate(models):
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1 * factor)

    def floating(out):
        return {".".join(path): value for path, value in flat(out).items() if value.is_floating_point()}

    def call(*state):
        return floating(torch.func.functional_call(module, state, inputs))

    together = torch.func.vmap(call)(*torch.func.stack_module_state(models))
    for i, model in enumerate(models):
        assert_same({path: values[i] for path, values in together.items()}, floating(model(*inputs)), 1e-4)


@pytest.mark.parametrize("name", [name for name in LEARNED.args[1] if name.startswith("GDUnit")])
def test_gradients_of_single_samples(name):
    module, inputs = build(name)
    parameters = dict(module.named_parameters())

    def loss(parameters, *sample):
        sample = [on_each(lambda x: x[None], given) for given in sample]
        return torch.func.functional_call(module, parameters, tuple(sample)).per_sample.sum()

    in_dims = (None, *(on_each(lambda _: 0, given) for given in inputs))
    each = torch.func.vmap(torch.func.grad(loss), in_dims=in_dims)(parameters, *inputs)
    together = torch.autograd.grad(module(*inputs).per_sample.sum(), list(parameters.values()))
    for (path, gradient), wanted in zip(each.items(), together):
        torch.testing.assert_close(gradient.sum(dim=0), wanted, rtol=1e-4, atol=1e-5, msg=path)


@LEARNED
def test_reset_parameters_draws_everything_anew(name):
    module, _ = build(name)
    states = []
    for seed in (1, 1, 2):
        for parameter in module.parameters():
            nn.init.constant_(parameter, 7.0)
        torch.manual_seed(seed)
        module.reset_parameters()
        assert not any((parameter == 7).any() for parameter in module.parameters())
        states.append({path: value.clone() for path, value in module.named_parameters()})
    first, again, other = states
    for path, value in first.items():
        assert torch.equal(value, again[path]), path
    if "free" not in name:  # those return to zeros, that is to equal weights
        assert any(not torch.equal(value, other[path]) for path, value in first.items())


# Parameters that get no gradient, and why.
WITHOUT_GRADIENT: dict[str, set[str]] = {}


@LEARNED
def test_every_parameter_gets_a_gradient(name):
    module, inputs = build(name)
    total(module(*inputs)).backward()
    got = {path for path, parameter in module.named_parameters() if parameter.grad is not None}
    assert got == {path for path, _ in module.named_parameters()} - WITHOUT_GRADIENT.get(name, set())


@EVERY
def test_a_print_shows_the_options(name):
    module, _ = build(name)
    text = repr(module)
    assert text.startswith(type(module).__name__ + "(")
    if type(module) is not gdkit.ReconstructionLoss:  # it has none
        assert re.search(r"\w=", module.extra_repr())


SOURCES = sorted(Path(gdkit.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_leave_device_and_environment_alone(path):
    assert not re.search(r"\.cuda\(|os\.environ|getenv", path.read_text(encoding="utf-8"))


def test_the_import_brings_nothing_optional():
    code = (
        "import sys, torch; before = set(sys.modules); import gdkit; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gdkit" in done.stdout.split()
    optional = {"torch_geometric", "matplotlib", "sklearn", "triton", "hypothesis", "pandas", "scipy", "networkx"}
    optional |= {"transformers", "huggingface_hub", "lightning", "safetensors"}
    assert not optional & set(done.stdout.split())
