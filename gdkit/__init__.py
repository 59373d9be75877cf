"""Graph distillation for PyTorch: nodes that see the same thing teach each other along a learned graph."""

from gdkit.crossmodal import CrossmodalTransformer
from gdkit.decoupling import DecoupledEncoder, DecoupledOutput
from gdkit.gd_unit import GDOutput, GDUnit
from gdkit.graph import DistillationGraph
from gdkit.losses import ReconstructionLoss, SoftOrthogonalityLoss, TripletMarginLoss
from gdkit.multimodal import MultimodalTransformer

__version__ = "0.1.0"

__all__ = [
    "CrossmodalTransformer",
    "DecoupledEncoder",
    "DecoupledOutput",
    "DistillationGraph",
    "GDOutput",
    "GDUnit",
    "MultimodalTransformer",
    "ReconstructionLoss",
    "SoftOrthogonalityLoss",
    "TripletMarginLoss",
    "__version__",
]
