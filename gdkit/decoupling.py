"""Split every node's sequence into a shared and a private part, decode the two, and encode the result again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from gdkit import _check
from gdkit._describe import output_text
from gdkit._layers import check_dtype_of_layer


class DecoupledOutput(NamedTuple):
    r"""What a :class:`DecoupledEncoder` returns: mappings from node name to (batch, time, dim), zero where not real.

    Attributes:
        coupled: :math:`\tilde X_m`, the convolution's result, before the split.
        shared: :math:`X^{com}_m`.
        private: :math:`X^{prt}_m`.
        reconstruction: :math:`D_m([X^{com}_m, X^{prt}_m])`, to compare with ``coupled`` (Eq. 2).
        reencoded: :math:`E^{prt}_m` of the reconstruction, to compare with ``private`` (Eq. 3).
        masks: (batch, time) of the steps that are real, or None if none were given.
    """

    coupled: dict[str, Tensor]
    shared: dict[str, Tensor]
    private: dict[str, Tensor]
    reconstruction: dict[str, Tensor]
    reencoded: dict[str, Tensor]
    masks: dict[str, Tensor] | None

    def __repr__(self) -> str:
        return output_text(self)


class DecoupledEncoder(nn.Module):
    r"""Shared and private features of every node, decoded and encoded again (Eq. 1 to 3).

    .. math::
        \tilde X_m = \mathrm{Conv1D}_m(X_m), \quad X^{com}_m = E^{com}(\tilde X_m), \quad
        X^{prt}_m = E^{prt}_m(\tilde X_m) \tag{1}

    One temporal convolution, one private encoder and one decoder a node; one shared encoder for all. Encoders and
    decoders are linear maps of a single step, without bias: what is a constant belongs to neither part.

    Args:
        input_dims: width of each node's input.
        dim: common width.
        kernel_size: steps under the convolution, for all nodes or by name.
        padding: "same" keeps the number of steps; "valid" returns ``kernel_size - 1`` fewer, and a step is real iff all
            the steps under it are. A node of no step is absent under both.

    Shape:
        - inputs: mapping name -> (batch, time, input_dim); masks: mapping name -> (batch, time) boolean. Nodes may
          differ in time. Returns :class:`DecoupledOutput`; with ``reconstruct=False``, which serves a trained model,
          its ``reconstruction`` and ``reencoded`` are empty.

    Raises:
        TypeError: if an argument has the wrong type or dtype.
        ValueError: if an option, a name or a shape does not fit.

    Example:
        >>> encoder = DecoupledEncoder({"language": 300, "vision": 20}, dim=16, kernel_size=3)
        >>> out = encoder({"language": torch.randn(2, 9, 300), "vision": torch.randn(2, 30, 20)})
        >>> out.shared["vision"].shape
        torch.Size([2, 30, 16])

    References:
        Decoupled Multimodal Distilling for Emotion Recognition, arXiv 2303.13802.
    """

    def __init__(
        self,
        input_dims: Mapping[str, int],
        dim: int,
        *,
        kernel_size: int | Mapping[str, int] = 5,
        padding: str = "same",
    ) -> None:
        super().__init__()
        owner = "DecoupledEncoder"
        if not isinstance(input_dims, Mapping) or not input_dims:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{owner}: input_dims must map at least one node name to its width, got {input_dims!r}")
        self.names = tuple(input_dims)
        _check.check_module_names(owner, self.names)
        _check.check_positive(owner, "dim", dim, integer=True)
        _check.check_choice(owner, "padding", padding, ("same", "valid"))
        if not isinstance(kernel_size, Mapping):
            kernel_size = dict.fromkeys(self.names, kernel_size)
        _check.check_names(owner, "kernel_size", kernel_size, self.names)
        for name in self.names:
            _check.check_positive(owner, f"input_dims[{name!r}]", input_dims[name], integer=True)
            _check.check_positive(owner, f"kernel_size[{name!r}]", kernel_size[name], integer=True)
        self.input_dims, self.kernel_size = dict(input_dims), dict(kernel_size)
        self.dim, self.padding = dim, padding
        self.projection = nn.ModuleDict(
            {
                name: nn.Conv1d(input_dims[name], dim, kernel_size[name], padding=padding, bias=False)
                for name in self.names
            }
        )
        self.shared = nn.Linear(dim, dim, bias=False)
        self.private = nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in self.names})
        self.decoder = nn.ModuleDict({name: nn.Linear(2 * dim, dim, bias=False) for name in self.names})

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in (*self.projection.values(), self.shared, *self.private.values(), *self.decoder.values()):
            module.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(
        self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None, reconstruct: bool = True
    ) -> DecoupledOutput:
        """Encode every node; see the class for shapes."""
        _check.check_names("DecoupledEncoder", "inputs", inputs, self.names)
        if masks is not None:
            _check.check_names("DecoupledEncoder", "masks", masks, self.names)
        out = DecoupledOutput({}, {}, {}, {}, {}, None if masks is None else {})
        batch: str | int = "batch"
        for name in self.names:
            axes = [batch, "time", self.input_dims[name]]
            batch = _check.check_shape("DecoupledEncoder", f"inputs[{name!r}]", inputs[name], axes).shape[0]
            x, mask = self._project(name, inputs[name], masks)  # (batch, time, dim)
            out.coupled[name] = x
            out.shared[name], out.private[name] = self.shared(x), self.private[name](x)
            # No step needs a mask from here on: every map is linear in its step and without bias, so zero stays zero.
            if reconstruct:
                both = torch.cat([out.shared[name], out.private[name]], dim=-1)  # (batch, time, 2 * dim)
                out.reconstruction[name] = self.decoder[name](both)
                out.reencoded[name] = self.private[name](out.reconstruction[name])
            if out.masks is not None and mask is not None:
                out.masks[name] = mask
        return out

    def _project(self, name: str, x: Tensor, masks: Mapping[str, Tensor] | None) -> tuple[Tensor, Tensor | None]:
        """The temporal convolution, and the mask of its result."""
        kernel_size, owner = self.kernel_size[name], "DecoupledEncoder"
        argument = f"inputs[{name!r}]"
        _check.check_not_empty(owner, argument, _check.check_floating(owner, argument, x))
        check_dtype_of_layer(owner, argument, x, self.projection[name])
        mask = None
        if masks is not None:
            mask = _check.check_mask(owner, f"masks[{name!r}]", masks[name], x.shape[:2])
            x = torch.where(mask[..., None], x, 0.0)
        if x.shape[1] == 0:  # an absent node; through one window of zeros, so that the weights still get a gradient
            nothing = x.new_zeros(x.shape[0], x.shape[2], kernel_size)
            return self.projection[name](nothing).transpose(1, 2)[:, :0], mask  # (batch, 0, dim)
        if self.padding == "valid" and x.shape[1] < kernel_size:
            raise ValueError(
                f"{owner}: {argument} has {x.shape[1]} steps, fewer than its kernel_size {kernel_size}; "
                "padding='same' takes any number"
            )
        x = self.projection[name](x.transpose(1, 2)).transpose(1, 2)  # (batch, time, dim)
        if mask is None:
            return x, None
        if self.padding == "valid":
            mask = mask.unfold(1, kernel_size, 1).all(dim=-1)
        return torch.where(mask[..., None], x, 0.0), mask

    if TYPE_CHECKING:  # nn.Module says Any

        def __call__(self, *args: Any, **kwargs: Any) -> DecoupledOutput: ...  # noqa: D102

    def extra_repr(self) -> str:
        """The options, for ``print(module)``."""
        sizes = set(self.kernel_size.values())
        kernel_size = self.kernel_size if len(sizes) > 1 else sizes.pop()
        return f"input_dims={self.input_dims}, dim={self.dim}, kernel_size={kernel_size}, padding={self.padding!r}"
