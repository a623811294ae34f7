"""The lemmas and Table 1 hold in floats and exactly, and each law is one that can fail."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import onr.norms
import onr_validation.lemmas.lemmas as lemmas
import onr_validation.lemmas.table1 as table1
from onr.arrays import column, safe
from onr.exact.surds import FASTEST, exact_array, square_root
from onr.jacobians import exact_norms
from onr.norms import BaseNorm, LpNorm, dual_exponent
from onr_validation.lemmas.laws import ROUNDING, Arithmetic, Law, json_record, print_laws
from onr_validation.lemmas.lemmas import check_lemmas
from onr_validation.lemmas.table1 import ENTRIES, NESTEROV, check_table

FLOAT, EXACT = Arithmetic(False), Arithmetic(True)
both = pytest.mark.parametrize("arithmetic", [FLOAT, EXACT], ids=lambda a: a.name)

TIES = "the same with zeros and ties"
# What is of NumPy alone: no part of the project could break it.
NUMPYS_OWN = {
    ("Lemma 3, Eq. 95", "max(-eps, min(eps, x)) = min(eps, max(-eps, x))"),
    ("Eq. 30", "sum (|x_i| / ||x||_inf)^p tends to |I| as p grows"),
}


def key(law):
    return law.name, law.statement


def broken(laws):
    return {key(law) for law in laws if not law.holds}


# They hold


@both
@pytest.mark.parametrize("seed", range(5))
def test_the_lemmas_hold(arithmetic, seed):
    laws = check_lemmas(arithmetic, trials=20, seed=seed)
    assert broken(laws) == set()
    for law in laws:
        assert law.arithmetic == arithmetic.name
        assert law.cases >= 20
        assert (law.failures > 0) is not law.expected
        assert (law.example != "") is not law.expected
        if law.expected:
            assert law.deviation == 0 if arithmetic.exact else law.deviation < ROUNDING
        assert law.verdict.startswith("holds" if law.expected else "fails in")
    assert len({key(law) for law in laws}) == len(laws)
    assert sum(not law.expected for law in laws) == (4 if arithmetic.exact else 5)


@both
@pytest.mark.parametrize("seed", range(5))
def test_the_table_holds(arithmetic, seed):
    laws = check_table(arithmetic, trials=6, seed=seed)
    assert broken(laws) == set()
    assert len(laws) == len(ENTRIES) + (1 if arithmetic.exact else 8)
    for law in laws:
        assert law.cases >= (6 * len(table1.SHAPES) if law.name.startswith("Table 1") else 10)
        assert law.expected
        assert law.deviation == 0 if arithmetic.exact else law.deviation < ROUNDING


@both
def test_two_draws_are_enough_for_a_counterexample(arithmetic):
    for seed in (*range(10), 185):
        assert broken(check_lemmas(arithmetic, trials=2, seed=seed)) == set()


@both
@pytest.mark.parametrize("check", [check_lemmas, check_table])
def test_the_cases_are_their_seed(arithmetic, check):
    one, two, other = (check(arithmetic, trials=2, seed=seed) for seed in (3, 3, 4))
    assert one == two
    assert [key(law) for law in one] == [key(law) for law in other]
    assert broken(other) == set()


def test_fractions_of_python_do_as_well(monkeypatch):
    monkeypatch.setattr("onr_validation.lemmas.laws.FASTEST", Fraction)
    monkeypatch.setattr(table1, "FASTEST", Fraction)
    assert broken(check_lemmas(EXACT, trials=3, seed=0)) == set()
    assert broken(check_table(EXACT, trials=2, seed=0)) == set()


# What they are checked on: no hypothesis is met by chance alone


def test_vectors_have_zeros_and_ties_and_the_generic_ones_none():
    rng = np.random.default_rng(0)
    x, generic = lemmas._vectors(rng, 200), lemmas._generic(rng, 200)
    size = np.abs(x)
    assert np.all(size.max(axis=1) > 0)
    assert np.sum((x == 0).any(axis=1)) >= 60
    assert np.sum((size == size.max(axis=1, keepdims=True)).sum(axis=1) > 1) >= 60
    assert np.sum((x != 0).all(axis=1)) >= 60
    assert np.all(generic != 0)
    assert all(len(set(row)) == lemmas.SIZE for row in np.abs(generic).tolist())
    # Differences of a 64th or more, as FAR needs.
    for values in (x, generic):
        assert np.array_equal(values * 64, np.round(values * 64))
        assert np.abs(values).max() <= 4


@pytest.mark.parametrize("p", lemmas.TABLE)
def test_starts_are_in_the_ball_and_on_its_sphere(p):
    points = lemmas._eps_ball(np.random.default_rng(1), 100, p)
    size = LpNorm(p)(points)
    assert np.all(size <= 0.75)
    if p != 2:
        assert np.sum(size == 0.75) >= 50
    assert np.sum(size < 0.75) >= 50
    assert np.array_equal(points * 2**10, np.round(points * 2**10))


def test_matrices_have_zeros_and_ties_and_one_is_zero():
    for d, n in table1.SHAPES:
        J = table1._matrices(np.random.default_rng(2), 20, d, n)
        assert J.shape == (20, d, n)
        assert not J[-1].any()
        assert np.all(np.abs(J[:-1:2]) <= 1)
        assert np.sum([np.any(matrix == 0) for matrix in J]) >= 8
        assert len(np.unique(np.abs(J[1:-1:2]))) > 15


def test_brute_force_knows_the_norms_that_are_known():
    J = np.array([[[1.0, -2.0, 0.0], [3.0, 1.0, -1.0]]])
    for (p, q), wanted in {
        (1, 1): 4,
        (1, 2): math.sqrt(10),
        (1, math.inf): 3,
        (2, 1): math.sqrt(18),
        (2, 2): math.sqrt(8 + math.sqrt(10)),
        (2, math.inf): math.sqrt(11),
        (math.inf, 1): 6,
        (math.inf, 2): math.sqrt(26),
        (math.inf, math.inf): 5,
    }.items():
        (found,) = table1._brute_force(J, p, q)
        assert abs(found - wanted) < 1e-14
    identity = table1._brute_force(exact_array(np.eye(3)[None], FASTEST), math.inf, 2)
    assert identity[0] == square_root(np.array([FASTEST(3)], dtype=object))[0]


@pytest.mark.parametrize("wanted", [True, False])
def test_sylvester_s_criterion(wanted):
    rng = np.random.default_rng(3)
    for size in range(1, 6):
        A = rng.integers(-3, 4, (size, size)).astype(float)
        # Eigenvalues from 1 up, or one that is zero or below.
        gram = A @ A.T + np.eye(size)
        if not wanted:
            v = rng.integers(1, 3, size).astype(float)
            gram -= np.outer(gram @ v, gram @ v) / (v @ gram @ v) * rng.choice([1, 2])
            gram = np.round(gram * 2**20) / 2**20 - np.eye(size) / 2**15
        assert table1._positive_definite(exact_array(gram, FASTEST)) is wanted
        assert (np.linalg.eigvalsh(gram).min() > 0) is np.bool_(wanted)


# Statements that need a hypothesis


def test_the_law_that_must_fail():
    for rows, holds, verdict in (
        (([1, 2], [1, 2]), False, "HOLDS"),
        (([1, 2], [1, 3]), True, "fails in 1, as it should"),
        (([1, 2], [0, 3]), True, "fails in 2, as it should"),
    ):
        law = Law("", "", "float", expected=False)
        assert not law.holds  # nothing was checked
        law.equal(*rows)
        assert law.holds is holds
        assert law.verdict == verdict


@both
def test_without_zeros_and_ties_the_counterexamples_are_gone(arithmetic, monkeypatch):
    monkeypatch.setattr(lemmas, "_vectors", lemmas._generic)
    monkeypatch.setattr(lemmas, "_tied", lemmas._generic)
    found = broken(check_lemmas(arithmetic, trials=10, seed=0))
    assert found == {("Lemma 2, Eq. 44", TIES), ("Lemma 2, Eqs. 45, 47", TIES)}


def test_laws_count_compare_and_show():
    for arithmetic, exact in (("float", False), ("exact", True)):
        law = Law("", "", arithmetic)
        law.equal([1, 2, 3], [1, 2, 4])
        law.equal([[1, 2], [3, 4]], [[1, 2], [3, 5]])
        law.at_most(np.array([1, 2]), np.array([1, 1]))
        assert (law.cases, law.failures, law.holds) == (7, 3, False)
        assert law.deviation == 0.25
        assert law.example == "3 is not 4"
        assert law.verdict == "FAILS in 3 cases: 3 is not 4"
        near = Law("", "", arithmetic)
        near.equal([1.0], [1 + 1e-12])
        assert near.holds is not exact
        for left, right in (([math.nan], [1.0]), ([1.0], [math.nan])):
            law = Law("", "", "float")
            law.equal(left, right)
            law.at_most(np.array(left), np.array(right))
            assert law.failures == 2
    two, eight = square_root(np.array([FASTEST(2), FASTEST(8)], dtype=object))
    law = Law("", "", "exact")
    law.equal([eight, FASTEST(1, 3)], [2 * two, FASTEST(1, 3)])
    assert (law.deviation, law.verdict) == (0, "holds exactly")
    law.equal([FASTEST(1, 10**30)], [FASTEST(0)])
    assert law.failures == 1
    # What is large is compared relatively, in either arithmetic.
    law = Law("", "", "exact")
    law.equal([FASTEST(4000)], [FASTEST(1000)])
    assert law.deviation == 0.75


def test_a_law_that_was_not_checked_does_not_hold(capsys):
    law = Law("name", "statement", "exact")
    assert not law.holds
    print_laws([law], "title")
    assert "FAILS" in capsys.readouterr().out
    (record,) = json_record([law], {})["laws"]
    assert record["holds"] is False


# Broken on purpose

VALUE, MAP = LpNorm.__call__, LpNorm.duality_map
BALL, FACE, SAMPLE = LpNorm.project_ball, LpNorm.project_face, LpNorm.sample_ball


def scaled_ball(norm, y, radius):
    """Points outside are scaled, whatever the norm."""
    size, radius = column(norm(y), y), column(radius, y)
    return np.where(size > radius, y * (radius / safe(size)), y)


NORM_MUTATIONS = {
    "the duality map is doubled": (
        LpNorm,
        "duality_map",
        lambda norm, z, ties="average": MAP(norm, z) + MAP(norm, z),
        {
            ("Lemma 1, Eqs. 38-43", "||v*||_p = 1"),
            ("Eq. 12", "v_k is the duality map of J^T u, step by step"),
            ("Eqs. 9-12", "u_k is the gradient at J v, the value ||J v||_q"),
            ("Section 7.1, Eq. 21", "h(y - (X + D) w) <= h(r) + lambda g(w)"),
            ("Section 7.1, Eq. 20", "||D*||_{g,h} = lambda"),
            ("Section 7.1", "h(r) = 0: equality at lambda u v^T"),
        },
    ),
    "the duality map is negated": (
        LpNorm,
        "duality_map",
        lambda norm, z, ties="average": -MAP(norm, z),
        {
            ("Lemma 1, Eqs. 16, 34", "<v*, z> = ||z||_p*"),
            # The sign of Eq. 22 as printed would then be right.
            ("Section 7.1, Eq. 22", "equality at +lambda r v^T / h(r)"),
            ("Section 7.1, Eqs. 22, 23", "equality at D* = -lambda r v^T / h(r)"),
            ("Lemma 2, Eq. 57", "fixed points of Eq. 16, p in {1, 2, inf}"),
        },
    ),
    "ties go to the first": (
        LpNorm,
        "duality_map",
        lambda norm, z, ties="average": MAP(norm, z, ties="vertex"),
        {("Lemma 1, Eq. 35", "the closed forms for p = 1, 2, inf")},
    ),
    "the gradient forgets the dual": (
        BaseNorm,
        "gradient",
        lambda norm, x: norm.duality_map(x),
        {
            ("Eqs. 28, 29", "||y||_p >= ||x||_p + <gradient at x, y - x>"),
            ("Eqs. 28, 29", "<gradient, x> = ||x||_p, ||gradient||_p* = 1"),
        },
    ),
    "every norm is l1": (
        LpNorm,
        "__call__",
        lambda norm, x: VALUE(LpNorm(1), x),
        {
            ("Lemma 1", "||z||_p and ||z||_p* by their definition"),
            ("Lemma 1, Eq. 36", "no v of the unit ball does better"),
        },
    ),
    "the ball is twice as large": (
        LpNorm,
        "project_ball",
        lambda norm, y, radius: BALL(norm, y, 2 * radius),
        {
            ("Lemma 2, Eqs. 45, 47", "the ball projection of d + alpha v, no zero or tie"),
            ("Lemma 2, Eq. 44", "the sphere projection of v + alpha v~, no zero or tie"),
            ("Lemma 2, last part", "alpha = 2 eps is enough, p in {1, inf}"),
            ("Eq. 80", "the projection for p = inf is either"),
            ("after Lemma 2", "with zeros and ties it is the projection onto a face"),
        },
    ),
    "the projection is the centre": (
        LpNorm,
        "project_ball",
        lambda norm, y, radius: 0 * BALL(norm, y, radius),
        {
            ("Eqs. 9, 17", "the ball projection is the closest point, every p"),
            ("Eqs. 9, 11", "the sphere projection is a closest point"),
            ("Eq. 11", "v_k is a closest point to v + alpha J^T u on the sphere"),
            ("Lemma 2, Eq. 45", "r ||g||_p* - <g, Pi(d + alpha g)> <= 4 R^2 / alpha"),
            ("Lemma 2, Eq. 44", "the same on the sphere"),
        },
    ),
    "the face is doubled": (
        LpNorm,
        "project_face",
        lambda norm, y, direction, radius: 2 * FACE(norm, y, direction, radius),
        {("Lemma 2, Eq. 45", "the limit lies in the ball and attains r ||g||_p*")},
    ),
    "the projection scales": (
        LpNorm,
        "project_ball",
        scaled_ball,
        {("Lemma 2, Eq. 46", "the sphere projection of alpha v, no zero or tie")},
    ),
    "the projection is the duality map": (
        LpNorm,
        "project_ball",
        lambda norm, y, radius: column(radius, y) * MAP(norm, y),
        {
            ("Lemma 2, last part", "alpha = 1.9 eps is enough"),
            ("after Lemma 2", "with zeros and ties it is the projection onto a face"),
        },
    ),
    "the face is a point": (
        LpNorm,
        "project_face",
        lambda norm, y, direction, radius: column(radius, y) * MAP(norm, direction),
        {("after Lemma 2", "with zeros and ties it is the projection onto a face")},
    ),
    "the simplex has no threshold": (
        onr.norms,
        "project_simplex",
        lambda w, total: w - np.max(w, axis=1, keepdims=True) + total,
        {("Lemma 2, last part", "alpha = 2 eps is enough, p in {1, inf}")},
    ),
}

FLOAT_MUTATIONS = {
    "the dual exponent is the exponent": (
        onr.norms,
        "dual_exponent",
        lambda p: dual_exponent(p) if p in lemmas.TABLE else p,
        {("Lemma 1, Eqs. 16, 34", "<v*, z> = ||z||_p*")},
    ),
    "every duality map is the sign": (
        LpNorm,
        "duality_map",
        lambda norm, z, ties="average": MAP(LpNorm(math.inf), z),
        {
            ("Lemma 2, Eq. 57", "the same for other p"),
            ("Eq. 28", "the gradient by central differences, 1 < p < inf"),
        },
    ),
    "the gradient for inf is another": (
        BaseNorm,
        "gradient",
        lambda norm, x: norm.dual.duality_map(x, ties="vertex"),
        {("Eqs. 29, 31-33", "the gradient for p tends to that for inf as p grows")},
    ),
    "every map is off by 1e-8": (
        LpNorm,
        "duality_map",
        lambda norm, z, ties="average": MAP(norm, z) * (1 + 1e-8),
        {("Lemma 1, Eqs. 38-43", "||v*||_p = 1")},
    ),
    "draws are too large": (
        LpNorm,
        "sample_ball",
        lambda norm, rng, shape: 1.01 * SAMPLE(norm, rng, shape),
        {("Draws from a ball", "||v||_p <= 1")},
    ),
    "draws are too small": (
        LpNorm,
        "sample_ball",
        lambda norm, rng, shape: 0.99 * SAMPLE(norm, rng, shape),
        {("Draws from a ball", "||v||_p^n is uniform on [0, 1]")},
    ),
    "draws have positive entries": (
        LpNorm,
        "sample_ball",
        lambda norm, rng, shape: np.abs(SAMPLE(norm, rng, shape)),
        {("Draws from a ball", "the entries are those of a cube's points in it")},
    ),
}


@both
@pytest.mark.parametrize("name", NORM_MUTATIONS)
def test_a_broken_norm_breaks_a_law(arithmetic, name, monkeypatch):
    target, method, wrong, wanted = NORM_MUTATIONS[name]
    monkeypatch.setattr(target, method, wrong)
    assert wanted <= broken(check_lemmas(arithmetic, trials=10, seed=0))


@pytest.mark.parametrize("name", FLOAT_MUTATIONS)
def test_a_norm_that_is_broken_in_floats_breaks_a_law(name, monkeypatch):
    target, method, wrong, wanted = FLOAT_MUTATIONS[name]
    monkeypatch.setattr(target, method, wrong)
    assert wanted <= broken(check_lemmas(FLOAT, trials=10, seed=0))


@both
def test_every_law_of_the_lemmas_is_broken_by_something(arithmetic):
    """No law is vacuous: for each one mistake above makes it come out as it should not."""
    mutations = [*NORM_MUTATIONS.values(), *([] if arithmetic.exact else FLOAT_MUTATIONS.values())]
    reached = {(name, TIES) for name in ("Lemma 2, Eq. 44", "Lemma 2, Eqs. 45, 47")}
    for _, _, _, wanted in mutations:
        reached |= wanted
    every = {key(law) for law in check_lemmas(arithmetic, trials=2, seed=0)}
    assert every - reached - NUMPYS_OWN == set()


def test_a_wrong_minimum_breaks_lemma_3(monkeypatch):
    class Wrong:
        minimum = staticmethod(lambda a, b: (a + b) / 2)

        def __getattr__(self, name):
            return getattr(np, name)

    monkeypatch.setattr(lemmas, "np", Wrong())
    assert {name for name, _ in broken(check_lemmas(FLOAT, trials=4, seed=0))} >= {
        "Lemma 3, Eq. 95"
    }


def test_exact_laws_see_one_part_in_a_billion_billion(monkeypatch):
    # Which the laws in floats leave to rounding.
    def wrong(norm, z, ties="average"):
        tiny = FASTEST(1, 10**18) if z.dtype == object else 1e-18
        return MAP(norm, z) + tiny * MAP(norm, z)

    monkeypatch.setattr(LpNorm, "duality_map", wrong)
    assert broken(check_lemmas(FLOAT, trials=4, seed=0)) == set()
    assert len(broken(check_lemmas(EXACT, trials=4, seed=0))) >= 8


# Table 1, broken on purpose

SIGNS, ATTAINED = exact_norms.best_signs, exact_norms.attained
SINGULAR, ROW = exact_norms._largest_singular_value, exact_norms._largest_row
BOUND = table1.cube_bound


def first_column(J, shape, p, q):
    v = exact_norms._one_hot(np.zeros(len(J), dtype=int), J.shape[2], J)
    return ATTAINED(J, q, v, "")


def changed(function, change):
    """Its result with some fields computed anew."""

    def wrong(*arguments):
        found = function(*arguments)
        return replace(found, **change(found))

    return wrong


CELLS = {(LpNorm(p).name, LpNorm(q).name) for p, q in ENTRIES}
ALL_EXACT = CELLS - {("2", "2")}
HARD = {("2", "1"), ("inf", "1"), ("inf", "2")}

TABLE_MUTATIONS = {
    "only the signs +1": ("best_signs", lambda *a: 0 * SIGNS(*a) + 1, HARD, HARD),
    "the last sign turned": (
        "best_signs",
        lambda A, *rest: SIGNS(A, *rest) * np.array([1] * (A.shape[1] - 1) + [-1]),
        HARD,
        HARD,
    ),
    "the first column": (
        "_largest_column",
        first_column,
        {("1", "1"), ("1", "2"), ("1", "inf")},
        {("1", "1"), ("1", "2"), ("1", "inf")},
    ),
    "rows for columns": (
        "_largest_column",
        ROW,
        {("1", "1"), ("1", "2")},
        {("1", "1"), ("1", "2")},
    ),
    "the largest entry for the largest row": (
        "_largest_row",
        lambda J, shape, p, q: ATTAINED(J, q, ROW(J, shape, LpNorm(1), q).v, ""),
        {("2", "inf")},
        {("2", "inf")},
    ),
    "no singular value": (
        "_largest_singular_value",
        changed(SINGULAR, lambda f: {"lower": 0 * f.lower, "upper": 0 * f.upper}),
        {("2", "2")},
        {("2", "2")},
    ),
    "a singular value 1e-10 off": (
        "_largest_singular_value",
        changed(SINGULAR, lambda f: {k: getattr(f, k) * (1 + 1e-10) for k in ("lower", "upper")}),
        set(),
        {("2", "2")},
    ),
    "the maximiser doubled": (
        "attained",
        changed(ATTAINED, lambda f: {"v": f.v + f.v}),
        CELLS,
        ALL_EXACT,
    ),
    "no maximiser": ("attained", changed(ATTAINED, lambda f: {"v": 0 * f.v}), CELLS, ALL_EXACT),
    "an upper bound above": (
        "attained",
        changed(ATTAINED, lambda f: {"upper": f.upper + f.upper}),
        CELLS,
        CELLS,
    ),
    "a lower bound below": (
        "attained",
        changed(ATTAINED, lambda f: {"lower": f.lower / 2}),
        CELLS,
        CELLS,
    ),
}


def broken_cells(arithmetic, trials=4):
    names = {name for name, _ in broken(check_table(arithmetic, trials=trials, seed=0))}
    return {(p, q) for p, q in CELLS if f"Table 1, p = {p}, q = {q}" in names}, names


@both
@pytest.mark.parametrize("name", TABLE_MUTATIONS)
def test_a_broken_operator_norm_breaks_its_cells(arithmetic, name, monkeypatch):
    function, wrong, in_floats, exactly = TABLE_MUTATIONS[name]
    monkeypatch.setattr(exact_norms, function, wrong)
    found, _ = broken_cells(arithmetic)
    assert (exactly if arithmetic.exact else in_floats) <= found


@both
def test_every_cell_is_broken_by_something(arithmetic):
    reached = set().union(*(row[3 if arithmetic.exact else 2] for row in TABLE_MUTATIONS.values()))
    assert reached == CELLS


@both
@pytest.mark.parametrize("factor", [0.98, 1.3])
def test_a_wrong_bracket_breaks_its_law(arithmetic, factor, monkeypatch):
    def wrong(J, **options):
        bound, root = BOUND(J, **options)
        return factor * bound, root

    monkeypatch.setattr(table1, "cube_bound", wrong)
    cells, names = broken_cells(arithmetic)
    assert cells == set()
    assert names == {"(inf, 2) in large"}


def test_the_bracket_says_no_more_than_is_checked():
    (law,) = [law for law in check_table(EXACT, trials=2, seed=0) if "large" in law.name]
    assert law.statement == "truth <= (1 + 1e-9) bound <= 1.2534 truth"
    assert (1 + 1e-9) * NESTEROV * (1 + 2e-6) < 1.2534


def test_all_signs_are_tried_for_the_hard_cells():
    for d, n in itertools.product((1, 3), (2, 4)):
        J = np.random.default_rng([d, n]).standard_normal((3, d, n))
        for p, q in ((2, 1), (math.inf, 1), (math.inf, 2)):
            truth = table1._brute_force(J, p, q)
            v = np.random.default_rng(0).standard_normal((3, 2000, n))
            size = LpNorm(p)(v.reshape(-1, n)).reshape(3, -1)
            reached = LpNorm(q)((v @ J.swapaxes(1, 2)).reshape(-1, d)).reshape(3, -1) / size
            assert np.all(reached.max(axis=1) <= truth * (1 + 1e-12))
            assert np.all(reached.max(axis=1) >= 0.5 * truth)
