"""Size and parts of a network, as the command line spells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class ModelConfig:
    """Size and parts of the network; the four ablations of the paper's Table 3 are the four switches.

    Args:
        dim: common width of all modalities.
        num_heads: attention heads; divides ``dim``.
        num_layers: blocks of every transformer.
        memory_layers: blocks of self-attention over each modality's reinforced features; 0 leaves them as they are.
        kernel_size: steps under the first convolution, one number or one a modality.
        pool: average this many consecutive steps before the first convolution, one number or one a modality.
        standardize: "column": subtract each column's mean over the training split, divide by its standard deviation;
            "modality": divide all columns of a modality by their common one (embeddings, whose weak columns are noise);
            "sample": subtract each sample's own mean over its steps (sensors, whose rest position differs by person).
        gain: training multiplies each column of a sample by exp(gain * normal), so that how strongly somebody moves or
            speaks matters less.
        warp: training plays each sample slower or faster, by a factor exp(warp * normal) within [1/2, 2].
        mixing: training multiplies the columns of each sample by I + mixing * normal / sqrt(columns), a random matrix
            near the identity: sensors sit at other angles on other people.
        stem_layers: nonlinear convolutions before the first one, for raw signals; 0: none.
        stem_batch_norm: normalise after each of them over the batch's real steps.
        stem_stride: keep the maximum of this many consecutive steps after each of them.
        readout: sequence to vector: "mean", "mean_max" (both, side by side) or "attention" (a learned weighted mean).
        readout_norm: normalise and rectify each sequence before it is read out, as a stem does after each convolution.
        wide: add to each modality's predictions, and to the joint and the fused one, a linear map of statistics of its
            input ("wide and deep"): "moments", or "signal" for raw signals; see dmd/signal_statistics.py; null: none.
        wide_dropout: of these statistics.
        vote: outside training, the output is the mean of the fused prediction and those of all parts that the sample
            has (of classes: of their log-probabilities), so that one weak modality cannot drag the others down.
        dropout: of embeddings, hidden layers and block results.
        modality_dropout: chance that training hides a modality from a sample, one number or one a modality; at least
            one is kept.
        input_dropout: of the standardised input features.
        attention_dropout: of attention weights; above 0 it is slow on a CPU.
        feature_decoupling: split each modality into a shared and a private part (FD).
        homo_gd: distil between the shared parts (HomoGD).
        cross_attention: reinforce every modality by every other (CA).
        hetero_gd: distil between the reinforced private parts (HeteroGD).
    """

    dim: int = 32
    num_heads: int = 4
    num_layers: int = 2
    memory_layers: int = 0
    kernel_size: int | dict[str, int] = 5
    pool: int | dict[str, int] = 1
    standardize: Literal["column", "modality", "sample"] = "column"
    gain: float = 0.0
    warp: float = 0.0
    mixing: float = 0.0
    stem_layers: int = 0
    stem_batch_norm: bool = False
    stem_stride: int = 1
    readout: Literal["mean", "mean_max", "attention"] = "mean"
    readout_norm: bool = False
    wide: Literal["moments", "signal"] | None = None
    wide_dropout: float = 0.5
    vote: bool = False
    dropout: float = 0.1
    modality_dropout: float | dict[str, float] = 0.0
    input_dropout: float = 0.0
    attention_dropout: float = 0.0
    feature_decoupling: bool = True
    homo_gd: bool = True
    cross_attention: bool = True
    hetero_gd: bool = True
