"""Data sets and loaders are measured as the arrays that they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import onr
from onr.errors import OnrError

torch.manual_seed(0)
X, Y = torch.rand(7, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0])
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 3)).eval()


class Counted(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images one by one, with a length and without an index, as some streams have."""

    def __iter__(self) -> Any:
        return iter(zip(X, Y, strict=True))

    def __len__(self) -> int:
        return len(X)


class Items(Dataset[tuple[torch.Tensor, int]]):
    """Counts how often each image is read."""

    def __init__(self) -> None:
        self.read = [0] * len(X)

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read[index] += 1
        return X[index], int(Y[index])


class Stream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images one by one, without a length."""

    def __iter__(self) -> Any:
        return iter(zip(X, Y, strict=True))


FORMS: dict[str, Callable[[], Any]] = {
    "tensors": lambda: TensorDataset(X, Y),
    "items": Items,
    "subset": lambda: Subset(TensorDataset(torch.cat([X, X]), torch.cat([Y, Y])), range(7)),
    "stream": Stream,
    "stream with a length": Counted,
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=3),
    "list of batches": lambda: [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "list of pairs": lambda: list(zip(X, Y.tolist(), strict=True)),
    "generator": lambda: ((X[k : k + 2], Y[k : k + 2].numpy()) for k in range(0, 7, 2)),
}
MEASURES: dict[str, Callable[..., Any]] = {
    "accuracy": onr.measure.accuracy,
    "robust_accuracy": lambda *of: onr.measure.robust_accuracy(*of, p=2, eps=[0, 0.3], steps=2),
    "norms": lambda *of: onr.measure.norms(*of, p=2, q=2),
    "spectrum": lambda *of: onr.measure.spectrum(*of, p=2, eps=0.1, reference=MODEL),
    "alignment": lambda *of: onr.measure.alignment(*of, p=2, eps=0.1),
    "linearity": lambda *of: onr.measure.linearity(*of, p=2, eps=0.1),
    "activations": lambda *of: onr.measure.activations(*of, eps=0.1),
    "directions": lambda *of: onr.measure.directions(*of, p=2, q=2, eps=0.1),
}


@pytest.mark.parametrize("name", MEASURES)
def test_data_is_measured_as_its_arrays(name: str) -> None:
    measure = MEASURES[name]
    expected = measure(MODEL, X, Y)
    for form in FORMS if name == "accuracy" else ("items", "generator"):
        np.testing.assert_equal(measure(MODEL, FORMS[form]()), expected, err_msg=form)


def test_a_data_set_is_read_where_it_is_measured() -> None:
    data = Items()
    onr.measure.accuracy(MODEL, data)
    assert max(data.read) <= 5


@pytest.mark.parametrize("attack", ["multitargeted", "pga"])
def test_an_attack_refuses_images_outside_the_box(attack: str) -> None:
    for images in (2 * X - 1, 255 * X):
        batches = [(images, MODEL(images).argmax(1))]
        with pytest.raises(OnrError, match=r"outside \[0, 1\].* normalisation inside the model"):
            onr.measure.robust_accuracy(MODEL, batches, p=2, eps=0.1, attack=attack)


@pytest.mark.parametrize("name", sorted(set(MEASURES) - {"accuracy", "robust_accuracy"}))
def test_a_measurement_outside_the_box_says_so_once(name: str) -> None:
    images = 2 * X - 0.5
    batches = [(images[:2], Y[:2]), (images[2:], Y[2:])]
    message = rf"run from {images.min():g} to {images.max():g}, outside \[0, 1\]"
    for given in ((images, Y), (TensorDataset(images, Y),), (batches,)):
        with pytest.warns(UserWarning, match=message) as told:
            MEASURES[name](MODEL, *given)
        assert [each.filename for each in told] == [__file__]
    edges = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    MEASURES[name](MODEL, edges, Y[:2])


def test_images_move_to_the_device_of_the_model() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).to("meta")
    with pytest.raises(Exception, match="meta"):
        onr.measure.accuracy(model, FORMS["loader"]())


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, None, "give y, the label of each input"),
        (FORMS["loader"](), Y, "x is a DataLoader: .* leave y out"),
        (3, None, "x is a int: expected an array, a data set .* or an iterable"),
        ([], None, "x has no inputs"),
        ([X, Y], None, "x has a Tensor as an element: expected pairs"),
        ([{"image": X}], None, "x has a dict as an element"),
        ([(X, Y, Y)], None, "x has a tuple as an element"),
        ([("photograph", 3)], None, "images that are a str: .* ToTensor"),
        ([(X, Y[:3])], None, "expected one label for each image"),
        ([(X[:2], Y[:1]), (X[2:3], Y[1:3])], None, "expected one label for each image"),
        ([(X, Y[:, None])], None, r"labels of shape \(7, 1\): expected one label"),
        ([(X[0], Y[:1])], None, r"images of shape \(3, 4, 4\) with labels of shape \(1,\)"),
        ([(X, Y), (X[..., 1:], Y)], None, r"\(3, 4, 4\) and \(3, 4, 3\).* one shape"),
        ([(X[0], 1), (X[0, :, 1:], 1)], None, r"\(3, 4, 4\) and \(3, 3, 4\).* one shape"),
        ([(X, Y), (X.double(), Y)], None, "one shape and type"),
        ([(X.numpy(), Y.numpy())], None, "give x as an array of torch"),
        ({"train": [(X, Y)]}, None, "x is a dict: .* give one of its parts"),
        ([(X, Y.double())], None, "expected whole numbers"),
    ],
)
def test_what_is_no_data(x: Any, y: Any, message: str) -> None:
    with pytest.raises(OnrError, match=message):
        onr.measure.accuracy(MODEL, x, y)


def test_pixels_outside_the_box_have_no_accuracy():
    model, x, y = torch.nn.Linear(3, 2), torch.rand(300, 3), torch.zeros(300, dtype=torch.int64)
    x[270, 1] = 1.5
    for measured in (
        lambda: onr.measure.accuracy(model, x, y),
        lambda: onr.measure.robust_accuracy(model, x, y, p=2, eps=0.1),
    ):
        with pytest.raises(OnrError, match=r"image 270: a pixel is 1.5, outside \[0, 1\]"):
            measured()
