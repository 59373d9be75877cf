"""Compiles the kernel with nvcc when it is first needed, and loads it."""

import ctypes
import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = [Path(__file__).with_name(name) for name in ("attention.cu", "thread.cuh")]
OPTIONS = ["-arch=sm_90", "-O3", "--shared", "--compiler-options=-fPIC", "--resource-usage"]


def find_tool(name: str) -> str | None:
    """A program of the CUDA toolkit: on the path, in the toolkit that CUDA_HOME names, or in Triton's wheel."""
    folders = [Path(os.environ[home]) / "bin" for home in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(home)]
    nvcc = shutil.which("nvcc")
    if nvcc:
        folders.append(Path(nvcc).resolve().parent)
    triton = importlib.util.find_spec("triton")
    if triton and triton.origin:
        folders.append(Path(triton.origin).parent / "backends/nvidia/bin")
    return next(filter(None, [shutil.which(name), *(shutil.which(name, path=folder) for folder in folders)]), None)


def cache_folder() -> Path:
    """Where compiled libraries are kept: in $XDG_CACHE_HOME if that is set, else in the temporary folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    if home:
        return Path(home) / "gdkit-benchmarks"
    return Path(tempfile.gettempdir()) / f"gdkit-benchmarks-{os.getuid()}"


def run(command: list[str]) -> str:
    """What a program prints, both streams; RuntimeError with that text if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


@functools.cache
def compiled() -> tuple[Path, str]:
    """The shared library, and what the compiler said of each kernel's registers, spills and shared memory.

    The file's name holds a hash of the source, the options and nvcc's version.
    """
    nvcc = find_tool("nvcc")
    if nvcc is None:
        raise RuntimeError("benchmarks.cuda: no nvcc; install the CUDA toolkit, or set CUDA_HOME to its folder")
    parts = [path.read_bytes() for path in SOURCES] + [" ".join(OPTIONS).encode(), run([nvcc, "--version"]).encode()]
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():  # in a shared temporary folder anyone may have made it
        raise RuntimeError(f"benchmarks.cuda: {folder} belongs to another user; set XDG_CACHE_HOME")
    library = folder / f"attention-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}.so"
    report = library.with_suffix(".txt")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one compiles, the others wait
        if not library.exists():
            unfinished = library.with_suffix(".tmp")
            report.write_text(run([nvcc, *OPTIONS, "-o", str(unfinished), str(SOURCES[0])]))
            os.replace(unfinished, library)
    return library, report.read_text()


@functools.cache
def load() -> ctypes.CDLL:
    """The library's functions; see the end of attention.cu."""
    library = ctypes.CDLL(str(compiled()[0]))
    library.attention_forward.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    library.attention_on_host.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    library.error_text.restype = ctypes.c_char_p
    return library
