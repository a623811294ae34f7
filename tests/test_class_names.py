"""Classes of a data set are found among the outputs of a model, or refused; never permuted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onr.class_names import outputs_of
from onr.data import Dataset, LaterSplit, Split
from onr.errors import OnrError
from onr.training.config import TrainConfig
from onr.training.factories import make_dataset

WORDS = ["Tabby_cat", "border-collie", "crane", "wolf", "bee", "ant"]
PLAIN = ["tabby cat", "border collie", "crane", "wolf", "bee", "ant"]


@given(st.permutations(range(6)), st.permutations(range(6)), st.integers(1, 6))
def test_each_class_is_the_output_of_its_name(
    model: list[int], data: list[int], count: int
) -> None:
    names = [f"n{index}, {PLAIN[index].upper()}, other {index}" for index in model]
    classes = [WORDS[index] for index in data[:count]]
    found = outputs_of(classes, names, data="data", model="model")
    assert [model[output] for output in found] == data[:count]
    wordnet = [f"n{index}" for index in data[:count]]
    assert outputs_of(wordnet, names, data="data", model="model") == found


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (["cat"], ["dog", "cats"], "'cat', which is no output of model: expected one as cats"),
        (["crane"], ["crane", "a", "crane"], r"output 0 \(crane\) and output 2 \(crane\) of model"),
        (["cat", "Cat"], ["dog", "cat"], "'cat' and 'Cat' are both output 1 of model, 'cat'"),
        (
            ["0", "1"],
            ["a", "b", "c"],
            "2 classes and model 3 outputs, and the data set has no names",
        ),
        (["a", "b"], ["0", "1", "2"], "2 classes and model 3 outputs, and the model has no names"),
        ([str(k) for k in (0, 1, 10, *range(2, 10))], [str(k) for k in range(11)], "not in order"),
        (["#3", "#4"], ["a", "b", "c", "d"], "'#4', which is no output"),
    ],
)
def test_what_is_in_doubt_is_refused(classes: list[str], names: list[str], message: str) -> None:
    with pytest.raises(OnrError, match=message):
        outputs_of(classes, names, data="data", model="model")


def test_numbers_count_where_there_are_as_many() -> None:
    for classes, names in ((["0", "1"], ["cat", "dog"]), (["dog", "cat"], ["0", "1"])):
        assert outputs_of(classes, names, data="data", model="model") == [0, 1]


def test_a_number_of_an_output_counts_for_a_model_without_names(tmp_path: Path) -> None:
    names = ["0", "1", "2"]
    assert outputs_of(["#2", "#0", "#1"], names, data="data", model="model") == [2, 0, 1]
    with pytest.raises(OnrError, match="'bee', which is no output of model"):
        outputs_of(["#2", "bee"], names, data="data", model="model")

    pixels, labels = np.zeros((4, 1, 3), np.uint8), np.array([0, 1, 2, 0])
    np.savez(tmp_path / "mine-test.npz", images=pixels, labels=labels, classes=["#2", "#0", "#1"])
    config = TrainConfig(dataset=f"npz:{tmp_path}/mine", model="torch.nn:Flatten")
    assert make_dataset(config).test.labels.tolist() == [2, 0, 1, 2]


def test_labels_become_outputs_and_the_training_part_stays_unread() -> None:
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 2, 0])

    def unread() -> Split:
        raise OnrError("read")

    data = Dataset("data", LaterSplit(unread), Split(images, labels), ("c", "a", "b"))
    found = data.labelled_for(["a", "b", "c", "d"], model="model")
    assert found.test.labels.tolist() == [2, 0, 1, 2]
    assert found.classes == ("a", "b", "c", "d")
    with pytest.raises(OnrError, match=r"^read$"):
        len(found.train)
