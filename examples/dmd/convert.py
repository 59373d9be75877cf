"""Turn recordings as they come into what train.py reads; SOURCE says how (docs/data.md describes every form).

python convert.py FILE.pkl FOLDER        an MMSA feature file becomes shards, for data larger than memory
python convert.py FILE.npz FOLDER        so do ragged sequences
python convert.py ARRAYS FILE.npz        a folder with one .npy a modality, and labels, becomes ragged sequences
python convert.py RECORDINGS FILE.npz    so does a folder of your own recordings, one file a sample
python convert.py ARRAYS|RECORDINGS FOLDER   or shards
python convert.py WATCH_DATASET.npy FILE.npz
                                         the shipped assets/smartwatch.npz, from seglearn/data/watch_dataset.npy of the
                                         Python package seglearn 1.2.5
python convert.py --verify FOLDER        compare shards with their checksums

ARRAYS holds <modality>.npy (samples, time, dim) or (samples, dim), and labels.npy or labels.csv; optional are split.npy
or splits.csv, ids, groups and <modality>_lengths.npy.

RECORDINGS holds samples.csv with the columns id, split (train, valid or test) and either label (a class name) or value
(a number), empty where unknown; and one folder a modality with <id>.csv (a header line, then one line a step) or
<id>.npy (time, dim). A sample without a file in a modality's folder lacks that modality.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from dmd.command import one_line_warnings, printable
from dmd.data import load
from dmd.data.folders import read_own
from dmd.data.shard_writer import SHARD_BYTES, verify_shards, write_shards
from dmd.data.smartwatch import read_seglearn
from dmd.durable import replacing


def write_arrays(target: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz, whole or not at all."""
    with replacing(target, sum(array.nbytes for array in arrays.values())) as path, path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def convert(source: Path, target: Path, arguments: argparse.Namespace) -> str:
    """Read the source, write the target in the form that its name asks for, and return what was understood.

    Raises:
        ValueError, OSError: what is wrong with either.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists already; nothing is overwritten")
    if not source.exists():
        raise FileNotFoundError(f"there is no {source}")
    is_file = target.suffix == ".npz"
    if source.suffix in (".pkl", ".npz") and source.is_file() and is_file:
        raise ValueError(f"{source} becomes a folder of shards, but the target {target} is named as a file")
    if source.suffix == ".npy" and not is_file:
        raise ValueError(f"{source} becomes ragged sequences: the target must be an .npz file, got {target}")
    forced = {"task": arguments.task, "metrics": arguments.metrics}
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        arrays, recordings = read_own(source, **forced)
        if is_file:
            write_arrays(target, arrays)
        else:
            write_shards(recordings, target, shard_bytes=arguments.shard_bytes)
        return recordings.overview()
    if source.suffix == ".npy":
        write_arrays(target, read_seglearn(source))
    elif source.suffix in (".pkl", ".npz"):
        write_shards(load(str(source), **forced), target, shard_bytes=arguments.shard_bytes)
    else:
        raise ValueError(f"the source must be a folder, or a .pkl, .npz or .npy file, got {source}")
    return ""


def main(given: list[str]) -> int:
    """Parse, call, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("target", type=Path, nargs="?", help="a file that ends in .npz, or else a folder of shards")
    parser.add_argument(
        "--task", choices=("regression", "classification"), help="where it is not to follow from SOURCE"
    )
    parser.add_argument("--metrics", choices=("mosi", "sims", "accuracy"), help="likewise")
    parser.add_argument("--shard-bytes", type=int, default=SHARD_BYTES, help="bytes of a shard, at most (%(default)s)")
    parser.add_argument("--verify", type=Path, metavar="FOLDER", help="read shards, and compare their checksums")
    arguments = parser.parse_args(given)
    if (arguments.verify is None) == (arguments.target is None) or (arguments.verify and arguments.source):
        parser.error("give SOURCE and TARGET, or --verify FOLDER")
    if arguments.shard_bytes < 1:
        parser.error(f"--shard-bytes must be at least 1, got {arguments.shard_bytes}")
    try:
        if arguments.verify is not None:
            print(f"{arguments.verify}: {verify_shards(arguments.verify)} shards are as they were written")
            return 0
        with one_line_warnings():
            understood = convert(arguments.source, arguments.target, arguments)
    except (OSError, EOFError, ValueError, TypeError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; nothing is left", file=sys.stderr)
        return 130
    print(f"wrote {arguments.target}\n{understood}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
