"""Messages of the option parser in this project's words."""

import pytest
from dmd.config import config_parser, parse_run
from dmd.wording import reworded

SAID = {
    "--epochs x": "epochs must be a whole number, got 'x'",
    "--model.dim 1.5": "model.dim must be a whole number, got '1.5'",
    "--learning_rate fast": "learning_rate must be a number, got 'fast'",
    "--shuffle_labels maybe": "shuffle_labels must be true or false, got 'maybe'",
    "--keep never": "keep must be 'best' or 'last', got 'never'",
    "--task x": "task must be 'regression', 'classification' or null, got 'x'",
    "--modalities vision": "modalities must be a list such as [one, two] or null, got 'vision'",
    "--model.pool {a:1.5}": "model.pool must be a whole number or a mapping {name: whole number}, got ",
    "--objective.distillation.prior [a]": "objective.distillation.prior must be a list of numbers or null, got ['a']",
    "--nothing": "unrecognized arguments: --nothing",
}


@pytest.mark.parametrize("given", SAID)
def test_wording_of_options(given):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as raised:
        parse_run(config_parser(), given.split(" "))
    assert str(raised.value).startswith(SAID[given])


def test_what_is_not_about_a_value_stays():
    assert reworded("batch_size must be\n  at least 1") == "batch_size must be at least 1"
    assert reworded('Parser key "config": File does not exist: x') == "config: File does not exist: x"


def test_the_file_is_named_where_it_is_to_blame(tmp_path):
    path = tmp_path / "my.yaml"

    def said(*arguments):
        parser = config_parser()
        parser.add_argument("--config", action="config")
        with pytest.raises(ValueError, match="epochs") as raised:
            parse_run(parser, ["--config", str(path), *arguments])
        return str(raised.value)

    path.write_text("epochs: 0\n")
    assert said() == f"--config {path}: epochs must be at least 1, got 0"
    path.write_text("batch_size: 4\n")
    assert said("--epochs", "x") == "epochs must be a whole number, got 'x'"
