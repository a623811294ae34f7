import doctest
import importlib
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from onr import norm, operator_norm
from onr.cli.main import main
from onr.data import Split
from onr.errors import NotAvailableError, OnrError
from onr.exact.surds import NotExactError, exact_array
from onr.feasible import boxed
from onr.jacobians.dense import Matrices
from onr.norms import LpNorm
from onr.testing import check_norm, small_network
from onr.text import attack_by_name
from onr_ellipsoids.coordinates import Components, Cosines, Pixels
from onr_ellipsoids.files import read_ellipsoid, write_ellipsoid
from onr_ellipsoids.fitting import components, deviations
from onr_ellipsoids.norms import Ellipsoid

SHAPE = (3, 4, 4)
SIZE = 48


def made(kind, spread=1.0):
    """A norm of images of SHAPE, with axes from 10^-spread to 1."""
    rng = np.random.default_rng(0)
    if kind == "pixels":
        coordinates = Pixels(10 ** rng.uniform(-spread, 0, SHAPE), "these")
    elif kind == "cosines":
        coordinates = Cosines(spread)
    else:
        rows = np.linalg.qr(rng.standard_normal((SIZE, 5)))[0].T.reshape(5, *SHAPE)
        coordinates = Components(rows, 10 ** rng.uniform(-spread, 0, 5), 0.1**spread, "these")
    return Ellipsoid("mine", "mine-dual", coordinates)


def matrix(found):
    """The matrix that maps the l2 ball onto the unit ball of the norm."""
    coordinates, x = found._coordinates, np.eye(SIZE).reshape(SIZE, *SHAPE)
    return coordinates.back(coordinates.into(x) * found._axes(x), SHAPE).reshape(SIZE, SIZE).T


KINDS = ["pixels", "cosines", "components"]


@pytest.mark.parametrize("kind", KINDS)
def test_laws_of_the_norm_and_of_its_dual(kind):
    check_norm(made(kind), SHAPE, draws=3)
    check_norm(made(kind).dual, SHAPE, draws=3)


def test_a_norm_that_says_it_is_monotone_and_is_not_breaks_a_law(monkeypatch):
    monkeypatch.setattr(Cosines, "aligned", True)
    with pytest.raises(AssertionError, match="signs do not matter"):
        check_norm(made("cosines"), SHAPE, draws=2)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_quadratic_form(kind):
    found = made(kind)
    x = np.random.default_rng(1).standard_normal((6, *SHAPE))
    flat = np.linalg.solve(matrix(found), x.reshape(6, SIZE).T)
    np.testing.assert_allclose(found(x), np.linalg.norm(flat, axis=0), rtol=1e-12)
    dual = matrix(found).T @ x.reshape(6, SIZE).T
    np.testing.assert_allclose(found.dual(x), np.linalg.norm(dual, axis=0), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.floats(0, 4),
    dimensions=st.integers(1, 8),
    far=st.floats(-9, 12),
    single=st.booleans(),
)
def test_a_projection_meets_its_optimality_conditions(seed, spread, dimensions, far, single):
    rng = np.random.default_rng(seed)
    axes = 10 ** np.append(rng.uniform(-spread, 0, dimensions - 1), 0.0)
    found = Ellipsoid("mine", "mine-dual", Pixels(axes, "these"))
    y = rng.standard_normal((5, dimensions)) * 10 ** rng.uniform(-spread, 0, (5, dimensions))
    y = (y / found(y)[:, None]) * (1 + 10.0**far)
    dtype, accuracy = (np.float32, 3e-4) if single else (np.float64, 1e-12)
    v = found.project_ball(y.astype(dtype), 1.0)
    assert v.dtype == dtype
    v, y = v.astype(float), y.astype(dtype).astype(float)
    moved = found(y) > 1
    np.testing.assert_allclose(found(v)[moved], 1, rtol=accuracy)
    # (y - v) is a multiple of v / a^2, the normal there.
    normal = v / axes**2
    t = np.sum((y - v) * normal, axis=1) / np.sum(normal**2, axis=1)
    assert (t >= -accuracy).all()
    apart = np.abs(y - v - t[:, None] * normal).max(axis=1)
    assert (apart <= accuracy * np.abs(y).max(axis=1))[moved].all()


@pytest.mark.parametrize("kind", KINDS)
def test_torch_gives_what_numpy_gives_at_every_size(kind):
    found, rng = made(kind), np.random.default_rng(2)
    x = rng.standard_normal((7, *SHAPE)) * 10.0 ** np.array([-300, -30, -3, 0, 3, 30, 300]).reshape(
        7, 1, 1, 1
    )
    for radius in (1e-250, 1.0, 1e200):
        for method, arguments in (
            ("__call__", ()),
            ("duality_map", ()),
            ("project_ball", (radius,)),
            ("project_sphere", (1e-305,)),
        ):
            ours = getattr(found, method)(x, *arguments)
            theirs = getattr(found, method)(torch.tensor(x), *arguments).numpy()
            assert np.isfinite(ours).all()
            np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12 * np.abs(ours).max())
    sizes = found(x) / np.abs(x).reshape(7, -1).max(axis=1)
    assert ((sizes > 0.1) & (sizes < 1e4)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_halves_are_computed_in_float32(kind):
    x = torch.tensor(np.random.default_rng(3).standard_normal((4, *SHAPE))).bfloat16()
    found = made(kind)
    size, wide = found(x), found(x.float())
    assert size.dtype == torch.bfloat16
    assert torch.allclose(size.float(), wide, rtol=2**-7)
    assert found.project_ball(x, 0.5).dtype == torch.bfloat16


def test_exact_numbers_stay_exact_along_pixels_and_are_refused_elsewhere():
    found, x = made("pixels"), exact_array(np.arange(SIZE, dtype=float).reshape(1, *SHAPE) - 9)
    v = found.duality_map(x)
    assert found(v)[0] == 1
    assert (v * x).sum() == found.dual(x)[0]
    assert (found.project_ball(x, 10**6) == x).all()
    with pytest.raises(NotExactError, match="outside the ball"):
        found.project_ball(x, 1)
    for kind in ("cosines", "components"):
        with pytest.raises(NotExactError, match="irrational"):
            made(kind)(x)


def test_from_inside_there_is_no_projection_onto_the_sphere():
    with pytest.raises(NotAvailableError, match="from inside"):
        made("pixels").project_sphere(np.zeros((1, *SHAPE)), 1.0)


@pytest.mark.parametrize("outputs", [5, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_norm_to_l2_is_a_singular_value(kind, outputs):
    found = made(kind)
    J = np.random.default_rng(4).standard_normal((3, outputs, SIZE))
    known = np.linalg.norm(J @ matrix(found), 2, axis=(1, 2))
    got = operator_norm(Matrices(J, SHAPE), p=found, q=2)
    assert got.kind == "exact"
    np.testing.assert_allclose(got.value, known, rtol=1e-12)
    np.testing.assert_allclose(found(got.v), 1)
    largest = operator_norm(Matrices(J, SHAPE), p=found, q="inf")
    np.testing.assert_allclose(
        largest.value, np.linalg.norm(J @ matrix(found), axis=2).max(axis=1), rtol=1e-12
    )


def test_many_outputs_are_streamed():
    J = np.random.default_rng(5).standard_normal((2, 65, 2 * 8 * 8))
    coordinates, unit = Cosines(1.0), np.eye(128).reshape(128, 2, 8, 8)
    ball = coordinates.into(unit) * coordinates.semi_axes((2, 8, 8))
    images = coordinates.back(ball, (2, 8, 8)).reshape(128, 128)
    found = operator_norm(Matrices(J, (2, 8, 8)), p=norm("frequency:1"), q=2)
    assert found.kind == "exact"
    known = np.linalg.norm(J @ images.T, 2, axis=(1, 2))
    np.testing.assert_allclose(found.value, known, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", ["pga", "multitargeted", "fgm"])
def test_attacks_keep_the_ball_and_the_box(kind, attack):
    network, x, y = small_network()
    rng = np.random.default_rng(6)
    coordinates = {
        "pixels": lambda: Pixels(10 ** rng.uniform(-1, 0, x.shape[1:]), "these"),
        "cosines": lambda: Cosines(1.0),
        "components": lambda: Components(
            np.linalg.qr(rng.standard_normal((x[0].size, 3)))[0].T.reshape(3, *x.shape[1:]),
            np.ones(3),
            0.1,
            "these",
        ),
    }[kind]()
    p = Ellipsoid("mine", "mine-dual", coordinates)
    made_attack = attack_by_name(attack).make
    moved = made_attack(p, 1.5, (0.0, 1.0))(network, x, y, rng=np.random.default_rng(0))
    assert (p(moved - x) <= 1.5 * (1 + 1e-9)).all()
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_clipping_alone_would_leave_the_ball():
    p, x = norm("frequency:1"), np.full((1, 1, 4, 4), 0.5)
    x[0, 0, 3, 3] = 1  # cannot move with the others, which makes an edge
    delta = np.full_like(x, 0.2)
    assert p(np.clip(x + delta, 0, 1) - x) > 1.01 * p(delta)
    assert p(boxed(x, delta, (0, 1), p) - x) <= p(delta) * (1 + 1e-12)


@pytest.mark.parametrize("attack", ["pga", "multitargeted"])
def test_on_a_linear_network_attacks_come_close_to_the_maximum(attack):
    from onr.architectures import Affine, Architecture, Flatten
    from onr_numpy.backend import NumpyBackend

    network = NumpyBackend().build(
        Architecture(SHAPE, (Flatten(), Affine(2))), seed=3, dtype="float64"
    )
    x, y, p = np.full((4, *SHAPE), 0.5), np.zeros(4, int), made("pixels", 2.0)
    here = network.linearize(x)
    slope = here.vjp(np.tile([-1.0, 1.0], (4, 1)))
    y = np.where(here.value[:, 1] > here.value[:, 0], 1, 0)
    slope = slope * np.where(y == 1, -1, 1).reshape(-1, 1, 1, 1)
    reach = 0.01 * p.dual(slope)
    moved = attack_by_name(attack).make(p, 0.01, None)(network, x, y, rng=np.random.default_rng(0))
    gained = np.sum(slope * (moved - x), axis=(1, 2, 3))
    assert (gained > 0.92 * reach).all()


def test_axes_of_a_data_set(tmp_path):
    rng = np.random.default_rng(7)
    images = np.clip(0.5 + 0.1 * rng.standard_normal((300, 1, 4, 4)) * np.linspace(0, 1, 4), 0, 1)
    split = Split(images, np.zeros(300, int))
    axes = deviations(split)["axes"]
    assert axes.max() == 1
    assert axes.min() == 1e-3  # a pixel that does not vary
    np.testing.assert_allclose(
        axes[..., 1:], (images.std(axis=0) / images.std(axis=0).max())[..., 1:]
    )
    found = components(split, 3)
    write_ellipsoid(tmp_path / "pca.npz", **found)
    whole = read_ellipsoid(tmp_path / "pca.npz")
    assert whole.semi_axes((1, 4, 4))[0] == 1
    values = np.linalg.eigvalsh(np.cov(images.reshape(300, -1).T, bias=True))[::-1]
    np.testing.assert_allclose(found["lengths"] ** 2, values[:3] / values[0], rtol=1e-9)
    np.testing.assert_allclose(found["rest"] ** 2, values[3:].mean() / values[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"axes": [1.0, 0.0]}, "positive"),
        ({"axes": [1.0, np.nan]}, "positive"),
        ({"axes": [1.0, 1e-5]}, "ratio"),
        ({"axes": ["a"]}, "expected floats"),
        ({"weights": [1.0]}, "expected 'axes'"),
        ({"directions": np.ones((2, 3)), "lengths": [1, 1], "rest": 1.0}, "orthonormal"),
        ({"directions": np.eye(3)[:2], "lengths": [1], "rest": 1.0}, "one for each"),
    ],
)
def test_a_bad_file_is_refused(arrays, said, tmp_path):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(OnrError, match=said):
        norm(f"ellipsoid:{tmp_path / 'bad.npz'}")


def test_no_file_and_other_shapes_are_refused(tmp_path):
    with pytest.raises(OnrError, match="no file"):
        norm(f"ellipsoid:{tmp_path / 'none.npz'}")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(OnrError, match="no file of axes"):
        norm(f"ellipsoid:{tmp_path / 'text.npz'}")
    np.savez(tmp_path / "five.npz", axes=np.ones(5))
    with pytest.raises(OnrError, match="expected a norm of their shape"):
        norm(f"ellipsoid:{tmp_path / 'five.npz'}")(np.ones((2, 3, 4)))
    with pytest.raises(OnrError, match="ratio"):
        norm("frequency:9")(np.ones((2, 1, 32, 32)))


def test_names_resolve_to_the_norm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", axes=[[0.5, 1.0]])
    x = np.array([[[3.0, 4.0]]])
    for spec in ("ellipsoid:mine.npz", "ellipsoid-dual:mine.npz", "frequency", "frequency:-0.5"):
        found = norm(spec)
        monkeypatch.chdir("/")
        assert norm(found.name)(x) == found(x)
        assert norm(found.dual.name)(x) == found.dual(x)
        monkeypatch.chdir(tmp_path)
    assert norm("frequency:0")(x) == pytest.approx(LpNorm(2)(x))


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("options", [("--arithmetic", "exact"), ("--backend", "torch")])
def test_theorem(options, tmp_path):
    np.savez(tmp_path / "mine.npz", axes=10 ** np.random.default_rng(0).uniform(-1, 0, SHAPE))
    p = f"ellipsoid:{tmp_path / 'mine.npz'}"
    out = run("verify-theorem", "--p", p, "--q", "1", "--trials", "3", "--json", *options)
    cell = json.loads(out)["cells"][0]
    assert cell["holds"]
    assert cell["deviation"]["max"] < 1e-9


def test_the_commands_take_the_norm(tmp_path):
    file, folder = tmp_path / "digits.npz", tmp_path / "run"
    run("ellipsoid-of", "digits", "--components", "10", "--out", file)
    p = f"ellipsoid:{file}"
    small = "--train-images", "200", "--epochs", "1"
    run("train", "--method", "at", "--p", p, "--eps", "1", "--steps", "2", *small, "--out", folder)
    assert json.loads((folder / "config.json").read_text())["served"]["norm/p"]["distribution"] == (
        "onr-ellipsoids"
    )
    run("evaluate", folder, "--eps", "0.5,1", "--images", "20", "--steps", "3")
    assert json.loads((folder / "evaluation.json").read_text())["p"] == p
    run("measure", "norms", folder, "--p", p, "--q", "2", "--images", "5")
    page = tmp_path / "audit"
    run("audit", folder, "--p", p, "--eps", "0.5", "--images", "12", "--out", page)


@pytest.mark.parametrize("name", ["coordinates", "files", "fitting", "norms", "secular"])
def test_examples(name, tmp_path):
    module = importlib.import_module(f"onr_ellipsoids.{name}")
    found = doctest.testmod(module, extraglobs={"np": np, "tmp_path": tmp_path})
    assert found.attempted > 0
    assert found.failed == 0
