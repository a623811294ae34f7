import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from onr.cli.main import main
from onr.errors import OnrError
from onr.norms import LpNorm
from onr.testing import check_norm
from onr_pixel_norms.norms import PixelMax, PixelSum

NORMS = [PixelSum(), PixelMax()]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 3), (4, 5)])
def test_laws(norm, shape):
    check_norm(norm, shape, draws=8)


def test_values():
    x = np.zeros((1, 3, 2, 2))
    x[0, :, 0, 0] = (3, 0, 4)
    x[0, :, 1, 1] = (0, 2, 0)
    assert PixelSum()(x) == 7
    assert PixelMax()(x) == 5


def test_one_channel_is_lp():
    x = np.random.default_rng(0).standard_normal((5, 1, 4, 4))
    np.testing.assert_allclose(PixelSum()(x), LpNorm(1)(x))
    np.testing.assert_allclose(PixelSum().project_ball(x, 2), LpNorm(1).project_ball(x, 2))
    np.testing.assert_allclose(
        PixelMax().project_ball(x, 0.3), LpNorm(math.inf).project_ball(x, 0.3)
    )


def test_vectors_are_refused():
    with pytest.raises(OnrError, match="images"):
        PixelSum()(np.zeros((2, 5)))


@pytest.mark.parametrize("name", ["pixel-sum", "pixel-max"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_theorem(name, backend):
    result = CliRunner().invoke(
        main,
        [
            "verify-theorem",
            "--p",
            name,
            "--q",
            "1",
            "--trials",
            "20",
            "--backend",
            backend,
            "--json",
        ],
    )
    assert result.exit_code == 0, result.output
    cell = json.loads(result.stdout)["cells"][0]
    # The paper states the theorem for 1, 2, inf; its proof needs the duality map to be idempotent.
    assert not cell["proven"]
    assert cell["holds"]
    assert cell["deviation"]["max"] < 1e-9


def test_train_and_evaluate(tmp_path):
    run = tmp_path / "run"
    arguments = ["train", "--method", "at", "--p", "pixel-max", "--eps", "0.1", "--steps", "2"]
    trained = CliRunner().invoke(main, [*arguments, "--epochs", "1", "--out", str(run)])
    assert trained.exit_code == 0, trained.output
    served = json.loads((run / "config.json").read_text())["served"]["norm/p"]
    assert served["distribution"] == "onr-pixel-norms"
    arguments = ["evaluate", str(run), "--p", "pixel-sum", "--eps", "0.5,2", "--images", "50"]
    evaluated = CliRunner().invoke(main, [*arguments, "--steps", "3"])
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads((run / "evaluation.json").read_text())["p"] == "pixel-sum"
