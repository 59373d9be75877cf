"""The DMD network for any set of modalities, any lengths, aligned or not (Eq. 1, 8 and 10 of arXiv 2303.13802)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gdkit import CrossmodalTransformer, DecoupledEncoder, DecoupledOutput, MultimodalTransformer
from gdkit.stacking import run_together

from .front import Front
from .layers import FeatureFusion, ResidualHead, SequenceProjection
from .options import ModelConfig
from .readout import Readout
from .wide import wide_layers, wide_predictions


class DMDOutput(NamedTuple):
    """What :class:`DMD` returns; logits are (batch, num_outputs), features (batch, width), by modality.

    Attributes:
        output: the prediction of all modalities together, (batch, num_outputs).
        joint_logits: the prediction of all shared features together, (batch, num_outputs).
        shared_logits, shared_features: of each modality's shared part; what HomoGD reads.
        private_logits, private_features: of each modality's reinforced private part; what HeteroGD reads.
        present: (batch, modality), True where the modality has at least one real step.
        decoupled: sequences and reconstructions of the encoder; None without feature decoupling.
    """

    output: Tensor
    joint_logits: Tensor
    shared_logits: dict[str, Tensor]
    shared_features: dict[str, Tensor]
    private_logits: dict[str, Tensor]
    private_features: dict[str, Tensor]
    present: Tensor
    decoupled: DecoupledOutput | None


class DMD(nn.Module):
    """Decouple, reinforce, read out every modality, and fuse.

    With a single modality there is nothing to reinforce it: cross-attention then falls away.

    Args:
        config: sizes and parts.
        input_dims: width of each modality's raw features.
        num_outputs: 1 for regression, else the number of classes.

    Shape:
        - inputs: mapping name -> (batch, time, input_dim), raw; masks: mapping name -> (batch, time) boolean.
          Modalities may differ in time. Returns :class:`DMDOutput`. With ``output_only``, which serves a trained
          network, what only losses read is left out: the reconstructions and, unless the parts vote, every prediction
          but the output. Mappings are then empty, and ``joint_logits`` is the output.

    Example:
        >>> model = DMD(ModelConfig(dim=8, num_layers=1), {"language": 20, "vision": 10}, num_outputs=1)
        >>> inputs = {"language": torch.randn(2, 6, 20), "vision": torch.randn(2, 9, 10)}
        >>> masks = {name: torch.ones(x.shape[:2], dtype=torch.bool) for name, x in inputs.items()}
        >>> model(inputs, masks).output.shape
        torch.Size([2, 1])
    """

    def __init__(self, config: ModelConfig, input_dims: Mapping[str, int], num_outputs: int) -> None:
        super().__init__()
        self.config = config
        self.names = tuple(input_dims)
        dim, dropout = config.dim, config.dropout
        options = {"dropout": dropout, "attention_dropout": config.attention_dropout}
        self.adapter = Front(config, input_dims)
        raw_dims = dict(input_dims)
        input_dims, sizes = self.adapter.dims, self.adapter.kernel_sizes
        if config.feature_decoupling:
            self.encoder = DecoupledEncoder(input_dims, dim, kernel_size=sizes)
        else:
            self.encoder = SequenceProjection(input_dims, dim, sizes)
        self.joint = nn.ModuleDict(
            {name: CrossmodalTransformer(dim, config.num_heads, config.num_layers, **options) for name in self.names}
        )
        self.multimodal = None
        width = dim
        if config.cross_attention and len(self.names) > 1:
            memory = config.memory_layers
            self.multimodal = MultimodalTransformer(
                self.names, dim, config.num_heads, config.num_layers, num_memory_layers=memory, **options
            )
            width = (len(self.names) - 1) * dim

        def readouts(dim: int) -> nn.ModuleDict:
            return nn.ModuleDict(
                {name: Readout(dim, config.readout, normalize=config.readout_norm) for name in self.names}
            )

        self.shared_readout, self.joint_readout, self.private_readout = readouts(dim), readouts(dim), readouts(width)
        dim, width = (each[self.names[0]].width for each in (self.shared_readout, self.private_readout))
        joint_width = len(self.names) * dim
        self.shared_heads = nn.ModuleDict({name: ResidualHead(dim, num_outputs, dropout) for name in self.names})
        self.private_heads = nn.ModuleDict({name: ResidualHead(width, num_outputs, dropout) for name in self.names})
        self.joint_head = ResidualHead(joint_width, num_outputs, dropout)
        self.fusion = FeatureFusion([width] * len(self.names) + [joint_width], num_outputs, dropout)
        self.wide, self.wide_norm = nn.ModuleDict(), nn.ModuleDict()
        if config.wide is not None:  # a linear map a modality and role
            roles = ("shared", "private", "joint", "fused")
            self.wide, self.wide_norm = wide_layers(config.wide, raw_dims, roles, num_outputs)
            self.wide_dropout = nn.Dropout(config.wide_dropout)
        self.num_outputs = num_outputs
        self.shared_dim, self.private_dim = dim, width

    def forward(
        self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor], output_only: bool = False
    ) -> DMDOutput:
        """See the class for shapes."""
        votes = self.config.vote and not self.training
        judged = self.names if votes or not output_only else ()  # modalities whose own predictions are wanted
        sequences, masks, statistics = self.adapter(inputs, masks)
        options = {"reconstruct": not output_only} if isinstance(self.encoder, DecoupledEncoder) else {}
        encoded = self.encoder(sequences, masks, **options)
        decoupled = encoded if isinstance(encoded, DecoupledOutput) else None
        shared = encoded if decoupled is None else decoupled.shared
        private = encoded if decoupled is None else decoupled.private

        shared_features = {name: self.shared_readout[name](shared[name], masks[name]) for name in judged}
        ordered = [[part[name] for name in self.names] for part in (shared, masks)]
        deepened = run_together([self.joint[name] for name in self.names], ordered[0], target_masks=ordered[1])
        joint = [self.joint_readout[name](x, masks[name]) for name, x in zip(self.names, deepened, strict=True)]
        joint = torch.cat(joint, dim=-1)  # (batch, modality * dim)
        reinforced = private if self.multimodal is None else self.multimodal(private, masks)
        private_features = {name: self.private_readout[name](reinforced[name], masks[name]) for name in self.names}
        output = self.fusion([*private_features.values(), joint])
        out = DMDOutput(
            output=output,
            joint_logits=self.joint_head(joint) if judged else output,
            shared_logits={name: self.shared_heads[name](shared_features[name]) for name in judged},
            shared_features=shared_features,
            private_logits={name: self.private_heads[name](private_features[name]) for name in judged},
            private_features=private_features,
            present=torch.stack([masks[name].any(dim=1) for name in self.names], dim=1),
            decoupled=decoupled,
        )
        if self.wide:
            out = self._widened(out, statistics)
        return out._replace(output=vote(out)) if votes else out

    def _widened(self, out: DMDOutput, statistics: Mapping[str, Tensor]) -> DMDOutput:
        """Every prediction with the linear map of the statistics added to it."""
        maps = self.wide if out.shared_logits else {"fused": self.wide["fused"]}
        added = wide_predictions(maps, self.wide_norm, self.wide_dropout, statistics, out.present)
        out = out._replace(output=out.output + sum(added["fused"].values()))
        if not out.shared_logits:
            return out._replace(joint_logits=out.output)
        return out._replace(
            joint_logits=out.joint_logits + sum(added["joint"].values()),
            shared_logits={name: logits + added["shared"][name] for name, logits in out.shared_logits.items()},
            private_logits={name: logits + added["private"][name] for name, logits in out.private_logits.items()},
        )


def vote(out: DMDOutput) -> Tensor:
    """The mean prediction of the fusion, the joint head and every part that the sample has, (batch, num_outputs)."""
    whole = torch.stack([out.output, out.joint_logits], dim=1)  # (batch, 2, num_outputs)
    parts = [torch.stack([*logits.values()], dim=1) for logits in (out.shared_logits, out.private_logits)]
    voices = torch.cat([whole, *parts], dim=1)  # (batch, voice, num_outputs)
    if voices.shape[2] > 1:
        voices = voices.log_softmax(dim=2)
    real = torch.cat([torch.ones_like(out.present[:, :1]).expand(-1, 2), out.present, out.present], dim=1)
    return torch.where(real[..., None], voices, 0.0).sum(dim=1) / real.sum(dim=1, keepdim=True)
