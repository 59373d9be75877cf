"""The network of the published DMD program, rebuilt from gdkit's pieces; where it leaves the paper, an option says so.

Language, vision and acoustic, each padded with zeros to a fixed number of steps, which no mask tells from real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gdkit import DecoupledEncoder, DecoupledOutput
from gdkit.stacking import run_together

from .released_layers import FixedLength, ReleasedHead, ReleasedTransformer

NAMES = ("language", "vision", "acoustic")
# Who answers whom, in the order in which the answers are concatenated.
SOURCES = {
    "language": ("acoustic", "vision"),
    "vision": ("language", "acoustic"),
    "acoustic": ("language", "vision"),
}


@dataclass
class ReleasedConfig:
    """Sizes, dropout and quirks of the published network; the defaults are its settings for MOSI.

    Args:
        input_dims: width of each modality.
        steps: number of steps that each modality is padded to.
        dim: common width.
        num_heads: attention heads; divides ``dim``.
        num_layers: blocks of the six cross-modal and the three joint transformers.
        memory_layers: blocks of the three transformers over the concatenated answers.
        kernel_size: steps under each first convolution, which pads nothing.
        homogeneous_dim, heterogeneous_dim: ``hidden_dim`` of the two GD-Units.
        text_dropout: of the language input.
        embedding_dropout: of scaled sequences with their positions.
        residual_dropout: of hidden layers and block results.
        attention_dropout: of attention weights, by the modality that answers; "memory": of the concatenated answers.
        output_dropout: inside every head.
        zero_positions: a step whose first channel is exactly 0 gets no position, as the steps of a padded input do.
        band: hide step j of the source from step i of the target where j - i is above the difference of their lengths.
        gates_replace: the sigmoid gates are fused instead of the features they weigh.
        skip_equal_width: no convolution where a modality is already ``dim`` wide and its kernel one step long. (With a
            longer kernel the published program fails there; here the convolution runs.)
    """

    input_dims: dict[str, int] = field(default_factory=lambda: {"language": 768, "vision": 20, "acoustic": 5})
    steps: dict[str, int] = field(default_factory=lambda: {"language": 50, "vision": 50, "acoustic": 50})
    dim: int = 50
    num_heads: int = 10
    num_layers: int = 4
    memory_layers: int = 4
    kernel_size: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 5))
    homogeneous_dim: int = 64
    heterogeneous_dim: int = 32
    text_dropout: float = 0.5
    embedding_dropout: float = 0.2
    residual_dropout: float = 0.0
    attention_dropout: dict[str, float] = field(
        default_factory=lambda: {"language": 0.3, "vision": 0.0, "acoustic": 0.2, "memory": 0.3}
    )
    output_dropout: float = 0.5
    zero_positions: bool = True
    band: bool = True
    gates_replace: bool = True
    skip_equal_width: bool = True

    def __post_init__(self) -> None:
        for name in ("input_dims", "steps", "kernel_size"):
            if set(getattr(self, name)) != set(NAMES):
                raise ValueError(f"released: {name} must name {', '.join(NAMES)}, got {getattr(self, name)}")
        for name in NAMES:
            if self.steps[name] < self.kernel_size[name]:
                raise ValueError(
                    f"released: {name} has {self.steps[name]} steps, fewer than its kernel_size "
                    f"{self.kernel_size[name]}"
                )

    @property
    def kept_steps(self) -> dict[str, int]:
        """Steps of each modality after its convolution."""
        return {name: self.steps[name] - self.kernel_size[name] + 1 for name in NAMES}


class ReleasedOutput(NamedTuple):
    """What :class:`ReleasedNetwork` returns; logits are (batch, 1), mappings go by modality.

    Attributes:
        output, joint_logits: the prediction, and that of the shared features together.
        shared_logits, shared_features: of each shared part; what the homogeneous GD-Unit reads.
        private_logits, private_features: of each reinforced private part; what the heterogeneous GD-Unit reads.
        last_steps: (batch, 2 * dim), last step of each reinforced private part.
        aligned: (batch, dim), the shared parts as the margin loss reads them.
        decoupled: sequences of the encoder.
    """

    output: Tensor
    joint_logits: Tensor
    shared_logits: dict[str, Tensor]
    shared_features: dict[str, Tensor]
    private_logits: dict[str, Tensor]
    private_features: dict[str, Tensor]
    last_steps: dict[str, Tensor]
    aligned: dict[str, Tensor]
    decoupled: DecoupledOutput


class ReleasedNetwork(nn.Module):
    """Decouple, reinforce, read out every modality, and fuse, as the published program does.

    Shape:
        - inputs: mapping name -> (batch, time, input_dim), time at most the config's ``steps``. Returns
          :class:`ReleasedOutput`; with ``output_only``, which serves a trained network, ``output``, ``last_steps`` and
          the sequences, and what only losses read is empty (``joint_logits``: the output).

    The linear maps in ``unused`` are part of the published state dict; nothing reads what they compute, so that their
    gradients stay None.
    """

    def __init__(self, config: ReleasedConfig) -> None:
        super().__init__()
        self.config, self.names = config, NAMES
        dim, kept = config.dim, config.kept_steps
        self.adapter = FixedLength(config.steps)
        self.text_dropout = nn.Dropout(config.text_dropout)
        dims = {name: config.input_dims[name] for name in NAMES}
        self.encoder = DecoupledEncoder(dims, dim, kernel_size=config.kernel_size, padding="valid")
        for name in self.skipped:
            self.encoder.projection[name] = nn.Identity()
        self.aligning = nn.ModuleDict({name: nn.Linear(kept[name] * dim, dim) for name in NAMES})
        self.unused = nn.ModuleDict({name: nn.Linear(kept[name] * dim, dim) for name in NAMES})

        def transformer(width: int, layers: int, answers: str, band: int | None) -> ReleasedTransformer:
            return ReleasedTransformer(
                width,
                config.num_heads,
                layers,
                attention_dropout=config.attention_dropout[answers],
                embedding_dropout=config.embedding_dropout,
                residual_dropout=config.residual_dropout,
                band=band if config.band else None,
                zero_positions=config.zero_positions,
            )

        def answering(target: str, source: str) -> ReleasedTransformer:
            band = abs(kept[source] - kept[target])
            hides = band < kept[source] - 1
            return transformer(dim, config.num_layers, source, band if hides else None)

        self.joint = nn.ModuleDict({name: transformer(dim, config.num_layers, name, 0) for name in NAMES})
        self.reinforce = nn.ModuleDict(
            {
                target: nn.ModuleDict({source: answering(target, source) for source in sources})
                for target, sources in SOURCES.items()
            }
        )
        self.memory = nn.ModuleDict({name: transformer(2 * dim, config.memory_layers, "memory", 0) for name in NAMES})
        output = config.output_dropout
        self.shared_heads = nn.ModuleDict({name: ReleasedHead(kept[name] * dim, dim, output) for name in NAMES})
        self.private_heads = nn.ModuleDict({name: ReleasedHead(2 * dim, 2 * dim, output) for name in NAMES})
        self.joint_head = ReleasedHead(3 * dim, 3 * dim, output)
        self.gates = nn.ModuleDict({name: nn.Linear(2 * dim, 2 * dim) for name in NAMES})
        self.joint_gate = nn.Linear(3 * dim, 3 * dim)
        self.fusion = ReleasedHead(9 * dim, 9 * dim, output)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Modalities without a convolution."""
        config = self.config
        fits = {name: config.input_dims[name] == config.dim and config.kernel_size[name] == 1 for name in NAMES}
        return tuple(name for name in NAMES if config.skip_equal_width and fits[name])

    def forward(self, inputs: Mapping[str, Tensor], output_only: bool = False) -> ReleasedOutput:
        """See the class for shapes."""
        padded = {name: self.adapter(name, inputs[name]) for name in NAMES}
        padded["language"] = self.text_dropout(padded["language"])
        judged = () if output_only else NAMES  # modalities whose own predictions are wanted
        decoupled = self.encoder(padded, reconstruct=not output_only)
        shared, private = decoupled.shared, decoupled.private
        flat = {name: shared[name].flatten(1) for name in judged}  # (batch, steps * dim)
        of_shared = {name: self.shared_heads[name](flat[name]) for name in judged}

        deepened = run_together([*self.joint.values()], [*shared.values()], last_step=True)
        joint = torch.cat(deepened, dim=-1)  # (batch, 3 * dim)
        pairs = [(target, source) for target, sources in SOURCES.items() for source in sources]
        answers = run_together(
            [self.reinforce[target][source] for target, source in pairs],
            [private[target] for target, _ in pairs],
            [private[source] for _, source in pairs],
        )
        answered = [torch.cat(answers[2 * n : 2 * n + 2], dim=-1) for n in range(len(NAMES))]  # (batch, time, 2 * dim)
        remembered = run_together([self.memory[name] for name in SOURCES], answered, last_step=True)
        last_steps = dict(zip(SOURCES, remembered, strict=True))
        of_private = {name: self.private_heads[name](last_steps[name]) for name in judged}

        parts = [(last_steps[name], self.gates[name](last_steps[name])) for name in NAMES]
        parts.append((joint, self.joint_gate(joint)))
        replace = self.config.gates_replace
        fused = torch.cat([gate.sigmoid() if replace else gate.sigmoid() * x for x, gate in parts], dim=-1)
        output = self.fusion(fused)[0]
        return ReleasedOutput(
            output=output,
            joint_logits=self.joint_head(joint)[0] if judged else output,
            shared_logits={name: of_shared[name][0] for name in judged},
            shared_features={name: of_shared[name][1] for name in judged},
            private_logits={name: of_private[name][0] for name in judged},
            private_features={name: of_private[name][2] for name in judged},
            last_steps=last_steps,
            aligned={name: self.aligning[name](flat[name]) for name in judged},
            decoupled=decoupled,
        )
