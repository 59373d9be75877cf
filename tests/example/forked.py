"""The commands in processes that start at once: one has imported everything, and forks another for each command."""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "dmd"
READY = ("torch.utils.tensorboard", "torchmetrics", "dmd.metric_parts", "torch_geometric.utils")


class Commands:
    """Start commands, and wait for them; a context manager."""

    def __enter__(self):
        paths = os.pathsep.join([str(ROOT), str(EXAMPLE), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(self, command, *arguments, log, **options):
        """The process number; what it says goes to a file.

        Options: ``kill_at``: end it by SIGKILL at this one of its writes (syncs and renames); ``largest_file``: bytes.
        """
        return self._ask(command=command, arguments=[str(x) for x in arguments], log=str(log), **options)

    def wait(self, number):
        """Its exit status, negative where a signal has ended it."""
        return self._ask(wait=number)

    def run(self, *arguments, **options):
        """Start and wait."""
        return self.wait(self.start(*arguments, **options))


def kill_at(number):
    """End this process at its n-th sync or rename."""
    calls = iter(range(1, 10**9))

    def counted(whole):
        def call(*arguments, **options):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(*arguments, **options)

        return call

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)


def command(request):
    """Become a command."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if request.get("kill_at"):
        kill_at(request["kill_at"])
    if request.get("largest_file"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails, as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"],) * 2)
    try:
        importlib.import_module(request["command"]).main(request["arguments"])
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def serve():
    """Fork and wait as asked."""
    for name in ("train", "reproduce", *READY):
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                command(request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
