"""`deqlight compare`: what it refuses before anything is trained, and how seeds and spreads are written."""

import pytest

from deqlight.cli.compare_plan import seeds
from deqlight.cli.compare_rows import Spread
from deqlight.errors import ConfigError

MISTAKES = {
    "resnet_digit": "did you mean resnet_digits?",
    "nowhere/mine.yaml": "there is no config file nowhere/mine.yaml",
    "resnet_digits heun_digits --model.net.solver Heunn": "resnet_digits: model.net.solver: there is no solver 'Heunn'",
    "resnet_digits --trainer.max_epoch 3": "did you mean max_epochs?",
    "resnet_digits --seed 3": "there is no option 'seed'; did you mean seeds?",
    "resnet_digits --retri": "did you mean retry?",
    "resnet_digits --retry=yes": "--retry takes no value",
    "resnet_digits --out": "--out needs a value",
    "resnet_digits --runs there": "--out says where",
    "resnet_digits --seed_everything 3": "--seeds says which",
    "resnet_digits --ckpt_path last": "each cell trains from its start",
    "resnet_digits --trainer.fast_dev_run true": "no checkpoint is left to test",
    "resnet_digits --trainer.enable_checkpointing false": "no checkpoint is left to test",
    "resnet_digits resnet_digits": "named twice",
    "resnet_digits -c heun_digits": "-c heun_digits is no file",
    "-c resnet_digits": "put resnet_digits first",
    "": "no experiment to compare",
    "--draw": "there is nothing to draw",
    "resnet_digits --out /dev/null/x": "--out /dev/null/x cannot be written",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_told_in_a_line_before_anything_is_trained(deqlight, stub, words, tmp_path):
    done = deqlight("compare", *words.split())
    assert done.code == 2 and done.out == "" and stub.took() == []
    (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert MISTAKES[words] in line
    assert list(tmp_path.iterdir()) == []


def test_seeds_are_a_number_or_a_list():
    assert seeds("3") == [0, 1, 2] and seeds("0,5,7") == [0, 5, 7] and seeds("5,") == [5]
    for wrong in ("0", "-1", "", ",", "1.5", "three", "1,1", "1,,2", "4294967296,", "1001"):
        with pytest.raises(ConfigError, match="--seeds is"):
            seeds(wrong)


def test_a_spread_is_told_to_two_digits():
    assert str(Spread([0.98, 0.99, 1.0])) == "0.990 ± 0.010"
    assert str(Spread([84666.0, 84666.0])) == "84,666" and str(Spread([0.25])) == "0.25"
    assert Spread([1.0]).std is None and str(Spread([40.0, 60.0])) == "50 ± 14"
