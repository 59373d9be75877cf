"""A process that has imported every command, and runs each request in a fork of itself: start-up is paid once.

A line of JSON comes in: {"argv": [...], "cwd": ...}. One goes out: {"status", "stderr", "seconds", "megabytes"}. The
fork cannot have more than `MEGABYTES` of memory beyond what it began with, used or not; "megabytes" is how far its
resident memory grew, code that it was the first to use included.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import time

SECONDS = 30  # a hang is an error long before
MEGABYTES = 200


def _status(name):
    """Kilobytes of a line of /proc/self/status."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


def _child(request, errors, figures):
    os.write(figures, f"{_status('VmRSS')}".encode())
    os.chdir(request["cwd"])
    os.dup2(errors, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    most = _status("VmData") * 2**10 + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    signal.alarm(SECONDS)
    module = sys.modules[request["argv"][0]]
    status = 0
    try:
        module.main(request["argv"][1:])
    except SystemExit as stopped:
        status = stopped.code
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def main():
    import evaluate  # noqa: F401
    import import_released  # noqa: F401
    import predict  # noqa: F401
    import torch
    import train  # noqa: F401
    import transformers

    transformers.BertModel  # noqa: B018  its import is part of the start-up
    transformers.AutoModel  # noqa: B018
    torch.set_num_threads(1)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as errors:
            began = time.perf_counter()
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                _child(json.loads(line), errors.fileno(), writing)
            _, status, used = os.wait4(child, 0)
            seconds = time.perf_counter() - began
            before = int(os.read(reading, 100))
            os.close(reading)
            os.close(writing)
            errors.seek(0)
            report = {
                "status": os.waitstatus_to_exitcode(status),
                "stderr": errors.read().decode(errors="replace"),
                "seconds": seconds,
                "megabytes": max(0, used.ru_maxrss - before) / 1024,
            }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
