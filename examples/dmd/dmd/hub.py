"""A trained model as a folder that others open: `save_pretrained` and `from_pretrained` of the Hugging Face hub.

The folder is that of a run, with what only training needs left out: config.json, model.safetensors, results.json,
and README.md, the model card. It is read as any run folder of a stranger's is (docs/security.md); no file is a pickle.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from torch import Tensor, nn

from .baselines import BaselineTask
from .checkpoint import load_network, read_config, save_weights, write_config
from .config import RunConfig
from .hub_card import check_results, model_card
from .predictor import Predictor, with_text_encoder
from .released_objective import ReleasedTask
from .report import write_json
from .safe_config import read_json
from .task import DMDTask

FILES = ("config.json", "model.safetensors", "results.json", "README.md")  # all that is fetched


class PretrainedDMD(nn.Module, PyTorchModelHubMixin):
    """A trained network with what its users must know, to be saved, sent and opened again.

    Args:
        task: the network and its losses; :attr:`task` goes on training where others left off.
        config, described: what :func:`dmd.checkpoint.read_config` says of its run.
        results: what results.json says of it, for the model card.

    Example::

        PretrainedDMD.from_run("runs/mine").save_pretrained("shared")
        predictor = PretrainedDMD.from_pretrained("shared").predictor()
    """

    def __init__(
        self,
        task: DMDTask | BaselineTask | ReleasedTask,
        config: RunConfig,
        described: Mapping[str, Any],
        results: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.task, self.described = task, dict(described)
        # Folders lead nowhere on another machine, and may tell what their owner would rather not.
        encoder = Path(config.text_encoder)
        encoder_name = encoder.name if encoder.is_absolute() or encoder.is_dir() else config.text_encoder
        self.config = replace(config, data=Path(config.data).name, out=None, text_encoder=encoder_name)
        self.results = None if results is None else check_results(results)
        if self.results is not None:
            self.results["data"] = {"path": self.config.data, "sizes": self.results["data"]["sizes"]}

    @classmethod
    def from_run(cls, folder: str | Path) -> PretrainedDMD:
        """The trained network of a run folder, with its results where the run is finished.

        Raises:
            FileNotFoundError: the folder holds no trained network.
            ValueError: a file is damaged.
        """
        folder = Path(folder)
        config, described = read_config(folder)
        task, path = load_network(folder, config, described), folder / "results.json"
        try:
            return cls(task, config, described, read_json(path) if path.is_file() else None).eval()
        except ValueError as error:
            raise ValueError(f"{path} is not a run's results: {str(error).removeprefix(f'{path}: ')}") from error

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> PretrainedDMD:
        """The model of a folder that :meth:`save_pretrained` wrote, or of a repository on the hub.

        Args:
            pretrained_model_name_or_path: the folder, or the repository's name.
            options: of ``huggingface_hub.snapshot_download``, such as ``revision``, ``token`` or ``local_files_only``.

        Raises:
            FileNotFoundError: there is no such folder or repository, or it holds no trained network.
            ValueError: a file is damaged, or asks for more than a configuration may.
        """
        name = pretrained_model_name_or_path
        if Path(name).is_dir():
            return cls.from_run(name)
        try:
            folder = snapshot_download(str(name), allow_patterns=list(FILES), **options)
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise FileNotFoundError(f"{name} is no folder, and the hub did not give it: {reason}") from error
        return cls.from_run(folder)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write configuration and weights; the mixin adds the card, or leaves one that is there."""
        write_config(save_directory, self.config, self.described)
        save_weights(save_directory / "model.safetensors", self.task.state_dict())
        if self.results is not None:
            write_json(save_directory / "results.json", self.results)

    def generate_model_card(self, *_: Any, **options: Any) -> Any:
        """The README.md of the folder; ``license``, ``language`` and other fields of a model card may be given."""
        return model_card(self.config, self.described, self.results, **options)

    def forward(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits (batch, class) or values (batch, 1) of padded sequences (batch, time, dim) and their real steps."""
        given = (inputs,) if isinstance(self.task, ReleasedTask) else (inputs, masks)
        return self.task.model(*given, output_only=True).output

    def predictor(self, device: str | torch.device = "cpu", **options: Any) -> Predictor:
        """Answers to raw samples, by a copy of the network; options as :class:`dmd.predictor.Predictor` has them."""
        task = with_text_encoder(copy.deepcopy(self.task), self.config, self.described)
        return Predictor(task, self.config, self.described, device, **options)


def save_run(folder: Path, out: Path) -> list[Path]:
    """Write the folder that others open of a run, and return its files; a README.md that is there is left as it is.

    Raises:
        FileNotFoundError: the folder holds no trained network.
        ValueError: a file is damaged, or ``out`` is the run itself.
    """
    if out.resolve() == folder.resolve():
        raise ValueError(f"{out} is the run itself, whose config.json and results.json would lose what training needs")
    PretrainedDMD.from_run(folder).save_pretrained(out)
    return [out / name for name in FILES if (out / name).is_file()]
