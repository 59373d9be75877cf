"""Configurations, run folders and text encoders from strangers: what they hold, and what must be said of it."""

import copy
import json
import os
import struct

import torch

from tests.example.strangers.pickles import Calls

DAMAGED = "damaged|another config"
YAML_PLAIN = "plain values|constructor"


def laughs():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    return "\n".join(lines)


def yamls(canary, module):
    """YAML for train.py --config; `module` would touch the canary when it is imported."""
    return {
        "object/apply": (f"data: !!python/object/apply:os.system ['touch {canary}']", YAML_PLAIN),
        "object/new": (f"data: !!python/object/new:os.system ['touch {canary}']", YAML_PLAIN),
        "python/name": (f"data: !!python/name:{module}.Thing", YAML_PLAIN),
        "python/module": (f"data: !!python/module:{module}", YAML_PLAIN),
        "own tag": ("data: !evil x", "plain values"),
        "aliases of aliases": (laughs(), "alias"),
        "alias of itself": ("data: &a [*a]", "alias"),
        "merge": ("model: &m {dim: 8}\nobjective: {<<: *m}", "alias"),
        "nested 5,000 deep": ("data: " + "[" * 5000 + "]" * 5000, "nested|nesting"),
        "nested 5,000 deep in blocks": ("\n".join(" " * i + "a:" for i in range(500)), "nested|nesting"),
        "class_path": (f"model:\n  class_path: {module}.Thing", "class_path is refused"),
        "class_path in a group": (
            f"objective: {{distillation: {{class_path: {module}.Thing}}}}",
            "class_path is refused",
        ),
        "class_path with dots": (f"objective.class_path: {module}.Thing", "class_path is refused"),
        "class_path at the top": (f"class_path: {module}.Thing", "class_path is refused"),
        "another file for a group": ("model: good.yaml", "model must hold options"),
        "another file for a group, with dots": ("objective.distillation: good.yaml", "must hold options"),
        "another configuration": ("config: good.yaml", "config is refused"),
        "integer of 10,000 digits": ("epochs: " + "9" * 10_000, "Exceeds|digits|epochs"),
        "integer in sixties": ("epochs: " + "1" + ":59" * 20_000, "epochs|Expected|Exceeds"),
        "a megabyte of text": ("data: " + "x" * 2**20, "too large for a configuration"),
        "not a number": ("learning_rate: .nan", "learning_rate"),
        "infinite": ("epochs: .inf", "epochs"),
        "a list": ("- a\n- b", "."),
        "binary": ("\x00\x01\x02", "."),
        "a terminal's codes": ('"\\e[2J": 1', r"x1b\[2J"),
        "unknown option": ("evil: 1", "not accepted"),
    }


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def runs(good, module):
    """Files of a run folder for evaluate.py: {file: content} that replaces the good ones."""

    def config(*path, value):
        content = copy.deepcopy(good)
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return {"config.json": json.dumps(content).encode()}

    def weights(data):
        return {"model.safetensors": data}

    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    far = one | {"data_offsets": [0, 2**50]}
    bert = {"model_type": "bert", "vocab_size": 10, "hidden_size": 8}
    text = {"text": "finetune"}
    tuned = copy.deepcopy(good)
    tuned["config"] |= text

    def encoder(**changes):
        content = copy.deepcopy(tuned)
        content["data"]["encoder"] = {"config": bert | changes}
        return {"config.json": json.dumps(content).encode()}

    return {
        "nested 100,000 deep": ({"config.json": b"[" * 100_000 + b"]" * 100_000}, "nested"),
        "nested 900 deep": ({"config.json": b"[" * 900 + b"]" * 900}, "nested"),
        "a JSON of 10 MB": ({"config.json": b"[" + b"0," * 5_000_000 + b"0]"}, "too large"),
        "no JSON": ({"config.json": b"\xff\xfe\x00"}, "not a run's configuration"),
        "a list": ({"config.json": b"[1, 2]"}, "not a run's configuration"),
        "integer of 10,000 digits": (
            {"config.json": b'{"config": ' + b"9" * 10_000 + b"}"},
            "not a run's configuration",
        ),
        "config of a list": (config("config", value=[1]), "not a run's configuration|config"),
        "data of a list": (config("data", value=[1]), "data must hold entries"),
        "class_path": (config("config", "model", value={"class_path": f"{module}.Thing"}), "class_path is refused"),
        "another file": (config("config", "model", value="config.json"), "model must hold options"),
        "NaN": (config("config", "learning_rate", value=float("nan")), "no number that JSON knows"),
        "infinite": (config("config", "model", "dropout", value=float("inf")), "no number that JSON knows"),
        "dims of text": (config("data", "dims", value={"language": "6"}), "data.dims must be"),
        "dims of a list": (config("data", "dims", value=[1]), "data.dims must be"),
        "huge dims": (config("data", "dims", "language", value=10**12), "data.dims must be"),
        "large dims": (config("data", "dims", "language", value=10**6), "of another config"),
        "huge width": (config("config", "model", "dim", value=2**40), "model.dim must be at most"),
        "large width": (config("config", "model", "dim", value=8192), "of another config"),
        "a billion layers": (config("config", "model", "num_layers", value=10**9), "num_layers must be at most"),
        "classes of numbers": (config("data", "classes", value=[1]), "data.classes must be"),
        "a task that is none": (config("data", "task", value={"a": 1}), "data.task must be"),
        "released of text": (config("data", "released", value="x"), "data.released must hold"),
        "released network of text": (config("data", "released", value={"network": "x", "objective": {}}), "."),
        "released layers": (
            config("data", "released", value={"network": {"num_layers": 10**9}, "objective": {}}),
            "num_layers must be at most",
        ),
        "data on another machine": (
            config("config", "data", value="http://a.invalid/x.pkl"),
            "on another machine",
        ),
        "data on a share": (config("config", "data", value="//example.invalid/x.pkl"), "on another machine"),
        "data that is no data": (config("config", "data", value="/etc/passwd"), "data must be"),
        "encoder with code": (encoder(auto_map={"AutoModel": f"{module}.Thing"}), "auto_map is refused"),
        "encoder that trusts": (encoder(trust_remote_code=True), "trust_remote_code is refused"),
        "encoder with a kernel from the hub": (encoder(_attn_implementation="kernels-community/x"), "must be 'eager'"),
        "encoder that is quantised": (
            encoder(quantization_config={"load_in_4bit": True}),
            "quantization_config is refused",
        ),
        "encoder of a billion layers": (encoder(num_hidden_layers=10**9), "num_hidden_layers must be at most"),
        "encoder of no kind": (encoder(model_type="evil"), "."),
        "encoder of text": (config("data", "encoder", value="x"), "data.encoder must hold"),
        "header length of 2**63": (weights(struct.pack("<Q", 2**63) + b"{}"), DAMAGED),
        "header length of 2**40": (weights(struct.pack("<Q", 2**40) + b"{}"), DAMAGED),
        "header that is no JSON": (weights(safetensors(b"\xff" * 20)), DAMAGED),
        "header nested 100,000 deep": (weights(safetensors(b"[" * 100_000)), DAMAGED),
        "offsets that overlap": (weights(safetensors({"a": one, "b": one}, bytes(16))), DAMAGED),
        "offsets beyond the file": (
            weights(safetensors({"a": far}, bytes(16))),
            DAMAGED,
        ),
        "offsets that fall": (
            weights(safetensors({"a": one | {"data_offsets": [16, 0]}}, bytes(16))),
            DAMAGED,
        ),
        "shape of 2**60": (weights(safetensors({"a": one | {"shape": [2**60]}}, bytes(16))), DAMAGED),
        "shape that overflows": (
            weights(safetensors({"a": one | {"shape": [2**40, 2**40]}}, bytes(16))),
            DAMAGED,
        ),
        "weights cut short": (weights(b"\x10"), DAMAGED),
        "no weights": (weights(b""), DAMAGED),
        "weights as a pickle": (weights(b"\x80\x04cos\nsystem\n."), DAMAGED),
        "another network's": (weights(safetensors({"a": one}, bytes(16))), "another config"),
    }


def encoders(folder, canary, module):
    """Changes to the folder of a good encoder, each as a function that makes it."""
    index = folder / "model.safetensors.index.json"
    path = folder / "config.json"

    def config(**changes):
        return lambda: path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def pickled():
        (folder / "model.safetensors").unlink()
        torch.save({"a": Calls(os.system, f"touch {canary}")}, folder / "pytorch_model.bin")

    def code():
        (folder / "modeling.py").write_text(f"open({str(canary)!r}, 'w')\nclass Model: pass\n")
        config(auto_map={"AutoModel": "modeling.Model", "AutoConfig": "modeling.Model"}, model_type="own")()

    outside = json.dumps({"metadata": {}, "weight_map": {"a": "../model.safetensors"}})
    return {
        "code of its own": (code, "auto_map is refused"),
        "code on the hub": (config(auto_map={"AutoModel": "stranger/code--modeling.Model"}), "auto_map is refused"),
        "weights as a pickle": (pickled, "safetensors alone"),
        "an attention from the hub": (config(attn_implementation="kernels-community/x"), "must be 'eager'"),
        "an adapter": (lambda: (folder / "adapter_config.json").write_text("{}"), "adapter_config.json is refused"),
        "weights outside the folder": (lambda: index.write_text(outside), "outside the folder"),
        "a vocabulary of 10**12": (config(vocab_size=10**12), "vocab_size must be at most"),
        "a vocabulary of 10**6": (config(vocab_size=10**6), "embeddings, in"),
        "a billion layers": (config(num_hidden_layers=10**9), "num_hidden_layers must be at most"),
        "nested 100,000 deep": (lambda: path.write_text("[" * 100_000), "nested"),
        "no kind": (config(model_type=None), "must be the configuration of an encoder"),
        "an unknown kind": (config(model_type="own"), "cannot be loaded"),
        "damaged weights": (lambda: (folder / "model.safetensors").write_bytes(b"\xff" * 8000), "cannot be loaded"),
    }
