"""Shards over HTTP, from a server on this machine that fails as servers do."""

import os
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import train
from dmd.data import load, remote, shard_cache, synthetic
from dmd.data.batching import blocks, training_loader
from dmd.data.remote import RemoteError
from dmd.data.shard_index import Shard
from dmd.data.shard_writer import write_shards

from tests.example.small_runs import prepare

# Attempts that failed are warned about; one test reads the warning.
pytestmark = pytest.mark.filterwarnings("ignore:.*; attempt . of 5 follows")
RECORDINGS = synthetic((24, 8, 8), seed=2)


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; of each file, the first answers are what ``server.faults`` says, and every request is noted."""

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        faults = self.server.faults.get(name, [])
        fault = faults.pop(0) if faults else None
        if fault is None:
            super().do_GET()
        elif isinstance(fault, int):
            self.send_error(fault)
        elif fault == "drop":
            self.close_connection = True
        else:
            data = (self.server.folder / name).read_bytes()
            self.send_response(200)
            if fault != "endless":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if fault == "truncated":
                data = data[: len(data) // 2]
            elif fault == "wrong":
                data = data[:-1] + bytes([data[-1] ^ 1])
            elif fault == "endless":
                data *= 3
            elif fault == "silent":
                self.server.is_over.wait(5)
            self.wfile.write(data)
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    write_shards(RECORDINGS, target := tmp_path_factory.mktemp("served") / "mosei", shard_bytes=4_000)
    return target


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
    """A server, a new cache, and pauses too short to wait for."""
    monkeypatch.setenv(shard_cache.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.3)
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder.parent)))
    served.faults, served.asked, served.folder, served.is_over = {}, [], folder, threading.Event()
    served.url = f"http://127.0.0.1:{served.server_port}/mosei/"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.is_over.set()
    served.shutdown()
    thread.join()
    served.server_close()


def assert_reads_all(recordings):
    for name, split in RECORDINGS.splits.items():
        for modality, arrays in split.inputs.items():
            for ours, theirs in zip(recordings.splits[name].inputs[modality], arrays, strict=True):
                assert ours.tobytes() == theirs.tobytes()


def test_each_shard_is_fetched_once_and_when_it_is_needed(server, folder, monkeypatch):
    recordings = load(server.url)
    assert recordings.sha256 == load(str(folder)).sha256
    assert (recordings.path, recordings.dims, server.asked) == (server.url, RECORDINGS.dims, ["index.json"])
    next(iter(recordings.splits["valid"].inputs["vision"]))
    assert server.asked[1:] == ["valid-00000.safetensors"]
    assert_reads_all(recordings)
    assert sorted(server.asked) == sorted(path.name for path in folder.iterdir())
    server.asked.clear()
    assert_reads_all(load(server.url))  # from the cache
    assert server.asked == ["index.json"]


@pytest.mark.parametrize("fault", [500, 503, 429, "drop", "truncated", "wrong", "endless", "silent"])
def test_what_fails_in_passing_is_tried_again(server, fault):
    server.faults = {"index.json": [500, "drop"], "train-00000.safetensors": [fault, fault]}
    with pytest.warns(UserWarning, match="index.json: 500, .*; attempt 2 of 5 follows in 0.0 s"):
        recordings = load(server.url)
    assert (
        recordings.splits["train"].inputs["language"][0].tobytes()
        == RECORDINGS.splits["train"].inputs["language"][0].tobytes()
    )
    assert server.asked == ["index.json"] * 3 + ["train-00000.safetensors"] * 3


@pytest.mark.parametrize(
    ("fault", "attempts", "cause"),
    [
        (500, "5 attempts", "500, message='Internal Server Error'"),
        (403, "1 attempt", "403, message='Forbidden'"),
        (404, "1 attempt", "FileNotFoundError"),
        ("drop", "5 attempts", "ServerDisconnectedError: Server disconnected"),
        ("truncated", "5 attempts", "ClientPayloadError: "),
        ("wrong", "5 attempts", "its SHA-256 is "),
        ("silent", "5 attempts", "TimeoutError"),
    ],
)
def test_then_one_line_says_what_was_tried(server, tmp_path, fault, attempts, cause):
    server.faults = {"train-00000.safetensors": [fault] * 99}
    recordings = load(server.url)
    with pytest.raises(RemoteError) as caught:
        recordings.splits["train"].inputs["language"][0]
    message = str(caught.value)
    assert message.startswith(f"{server.url}train-00000.safetensors could not be fetched in {attempts}: ")
    assert cause in message
    assert "\n" not in message
    num_asked = server.asked.count("train-00000.safetensors")
    assert int(attempts[0]) <= num_asked <= (2 if fault == "drop" else 1) * int(attempts[0])  # aiohttp asks once more
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]  # nothing half is kept


def test_a_worker_hands_on_the_same_line(server):
    server.faults = {f"train-{number:05}.safetensors": [404] * 9 for number in range(20)}
    loader = training_loader(load(server.url).splits["train"], 4, num_workers=1)
    with pytest.raises(
        RemoteError, match=r"^http.*/train-000...safetensors could not be fetched in 1 attempt: [^\n]*$"
    ):
        next(iter(loader))


def test_the_command_ends_with_one_line(server, tmp_path, capsys):
    server.faults = {"index.json": [404]}
    with pytest.raises(SystemExit) as stopped:
        train.main(["--data", server.url, "--out", str(tmp_path / "run"), "--device", "cpu"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {server.url}index.json could not be fetched in 1 attempt: FileNotFoundError")
    assert error.count("\n") == 1
    for url, message in (
        ("nope://host/x", "Protocol not known: nope"),
        ("http://127.0.0.1:9/x", "Connect call failed"),
    ):
        with pytest.raises((ValueError, RemoteError), match=message):
            load(url)


def test_a_damaged_cache_is_fetched_again(server, tmp_path):
    assert_reads_all(load(server.url))
    server.asked.clear()
    kept = sorted((tmp_path / "cache").glob("*.safetensors"))
    data = kept[0].read_bytes()
    kept[0].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    kept[1].write_bytes(kept[1].read_bytes()[:-1])
    kept[2].unlink()
    assert_reads_all(load(server.url))
    assert len(server.asked) == 1 + 3
    assert kept[0].read_bytes() == data


def test_the_cache_is_bounded_and_keeps_what_was_used_last(server, folder, tmp_path, monkeypatch):
    sizes = sorted(path.stat().st_size for path in folder.glob("*.safetensors"))
    monkeypatch.setenv(shard_cache.CACHE_GB, str(2.5 * sizes[-1] / 1e9))
    language = load(server.url).splits["train"].inputs["language"]
    firsts = [int(np.flatnonzero(language.numbers == number)[0]) for number in range(3)]
    files = language.files
    for turn, number in enumerate((0, 1, 0, 2)):
        files._open.clear()
        assert len(language[firsts[number]])
        os.utime(tmp_path / "cache" / f"{files.shards[number].sha256}.safetensors", (turn, turn))
    kept = {path.stem for path in (tmp_path / "cache").glob("*.safetensors")}
    assert kept == {files.shards[number].sha256 for number in (0, 2)}
    monkeypatch.setenv(shard_cache.CACHE_GB, "none")
    with pytest.raises(ValueError, match="DMD_CACHE_GB must be a number above 0, got 'none'"):
        load(server.url)


def test_an_index_cannot_empty_the_cache(server, folder, tmp_path, monkeypatch):
    assert_reads_all(load(server.url))
    kept = sorted((tmp_path / "cache").glob("*.safetensors"))
    source = load(server.url).splits["train"].inputs["language"].files.source
    monkeypatch.setattr(source, "max_bytes", sum(path.stat().st_size for path in kept))
    shard = Shard("x.safetensors", 1, 2**39, "0" * 64)
    with pytest.raises(
        ValueError, match=r"x\.safetensors: a shard must have at most the \d+ bytes .* got 549755813888"
    ):
        source.fetch(shard)
    with pytest.raises(RemoteError, match="FileNotFoundError"):
        source.fetch(replace(shard, bytes=source.max_bytes))
    assert sorted((tmp_path / "cache").glob("*.safetensors")) == kept
    monkeypatch.setenv(shard_cache.CACHE_GB, "1e-6")
    with pytest.raises(ValueError, match="a shard must have at most the 1000 bytes of the cache"):
        load(server.url)


def test_what_kills_have_left_is_removed_and_no_planted_link_is_followed(server, tmp_path):
    files = load(server.url).splits["train"].inputs["language"].files
    cache, other = tmp_path / "cache", tmp_path / "other"
    other.write_text("mine")
    (cache / f"{files.shards[0].sha256}.part").symlink_to(other)
    (cache / f"{files.shards[0].sha256}.safetensors").symlink_to(other)
    for name in ("old.part", "old.lock", "new.part", "new.lock", "old.txt"):
        (cache / name).write_bytes(b"x")
        if name.startswith("old"):
            os.utime(cache / name, (1, 1))
    files.open(0)
    assert other.read_text() == "mine"
    assert {path.name for path in cache.glob("[no]*")} == {"new.part", "new.lock", "old.txt"}
    (cache / "new.part").write_bytes(bytes(10 * files.shards[1].bytes))  # what others fetch counts
    files.source.max_bytes = 10 * files.shards[1].bytes
    files.open(1)
    assert [path.stem for path in cache.glob("*.safetensors")] == [files.shards[1].sha256]


def test_a_file_system_that_does_not_call_back_is_bounded_too(folder, server, monkeypatch):
    monkeypatch.setattr(remote, "MAX_INDEX_BYTES", 100)
    with pytest.raises(RemoteError, match="bytes came, at most 100 were expected"):
        load(folder.as_uri())


def test_the_order_looks_at_the_files_of_tokens_too(server):
    split = load(server.url).splits["train"]
    tokens, inputs = split.inputs["language"], {name: list(arrays) for name, arrays in split.inputs.items()}
    assert blocks(replace(split, inputs=inputs)) is None
    assert blocks(replace(split, inputs=inputs, tokens=tokens)) is tokens.blocks


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_reads_a_few_shards_at_a_time(server, num_workers):
    split = load(server.url).splits["train"]
    numbers = split.inputs["language"].blocks
    assert numbers.max() >= 4
    loader = training_loader(split, 4, seed=3, num_workers=num_workers)
    seen = np.concatenate([batch.index.numpy() for batch in loader])
    assert sorted(seen) == list(range(24))
    last = {number: np.flatnonzero(numbers[seen] == number).max() for number in set(numbers)}
    first = {number: np.flatnonzero(numbers[seen] == number).min() for number in set(numbers)}
    begun = [number for number in first if first[number] < min(last.values())]
    assert len(begun) < len(first)  # some shard is begun only after another is done
    assert sorted(set(server.asked)) == sorted(
        {"index.json"} | {split.inputs["language"].files.shards[n].file for n in numbers}
    )
    assert len(server.asked) == len(set(server.asked))  # also of two workers only one fetches


def test_a_run_from_a_server(server, tmp_path, no_pictures):
    server.faults = {name: ["drop", 500] for name in os.listdir(server.folder)}
    run = prepare(tmp_path / "run", load(server.url), epochs=1)
    assert run.train()["data"]["path"] == server.url
