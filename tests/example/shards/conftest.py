"""A small file, and the same as shards."""

import pytest
from dmd.data import load
from dmd.data.shard_writer import write_shards

from tests.example.small_files import mmsa_file


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return mmsa_file(tmp_path_factory.mktemp("source") / "file.pkl")


@pytest.fixture(scope="module")
def folder(source):
    """The file as shards of a few samples each, with one whose samples have no step."""
    write_shards(load(str(source)), target := source.parent / "shards", shard_bytes=600)
    return target
