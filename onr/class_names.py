"""Which output of a model is which class of a data set, by their names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from onr.errors import OnrError

__all__ = ["largest_output", "numbered", "outputs_of"]

OUTPUT = "#"
"""The sign before the number of an output that stands for a class, as in ``#207``."""


def numbered(names: Sequence[str]) -> bool:
    """Whether the classes have no names, only their numbers: ``0``, ``1``, ``2`` and so on.

    Example:
        >>> numbered(["0", "1"]), numbered(["1", "0"])
        (True, False)

    """
    return list(names) == [str(index) for index in range(len(names))]


def largest_output(classes: Sequence[str]) -> int | None:
    """The largest number of an output that a class has in place of a name; ``None`` of none.

    Example:
        >>> largest_output(["#2", "bee", "#0"]), largest_output(["ant", "bee"])
        (2, None)

    """
    numbers = [name.removeprefix(OUTPUT) for name in classes if name.startswith(OUTPUT)]
    return max((int(number) for number in numbers if number.isdecimal()), default=None)


def outputs_of(classes: Sequence[str], names: Sequence[str], *, data: str, model: str) -> list[int]:
    """The output of a model that stands for each class of a data set.

    Names are compared without case, with underscores and hyphens as spaces. A name of the model
    may list synonyms, separated by commas (``n01440764, tench, Tinca tinca``), each of which
    counts. ``#207`` is output 207. Where the data set or the model has only numbers for its
    classes, and no class names its output so, the numbers count, if there are as many classes as
    outputs.

    Args:
        classes: the names of the data set's classes.
        names: the class of each output.
        data: how errors name the data set.
        model: how errors name the model.

    Raises:
        OnrError: a class is no output, several outputs have its name, two classes are the same
            output, or numbers are compared and there are not as many outputs as classes.

    Example:
        >>> known = ["tench, Tinca tinca", "crane", "tabby cat", "crane"]
        >>> outputs_of(["Tabby_cat", "Tinca tinca", "#3"], known, data="mine", model="m")
        [2, 0, 3]
        >>> try:
        ...     outputs_of(["crane"], known, data="mine", model="m")
        ... except OnrError as error:
        ...     print(str(error).partition(";")[0])
        mine has the class 'crane', which is output 1 (crane) and output 3 (crane) of m

    """
    advice = (
        "; write #NUMBER, the number of the output, as the class's name (of a folder, by a line "
        "FOLDER = #NUMBER in classes.txt)"
    )
    if largest_output(classes) is None and (numbered(classes) or numbered(names)):
        if len(classes) != len(names):
            raise OnrError(
                f"{data} has {len(classes)} classes and {model} {len(names)} outputs, and "
                f"{'the data set' if numbered(classes) else 'the model'} has no names for them: "
                f"name the classes as the model does{advice}"
            )
        if not numbered(classes) and sorted(classes) == sorted(names):
            raise OnrError(
                f"{data} has the classes {_some(classes)}: these numbers are not in order, and it "
                f"is not known which is which output of {model}{advice}"
            )
        return list(range(len(classes)))
    known: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        for synonym in {_plain(name), *map(_plain, name.split(","))}:
            known.setdefault(synonym, []).append(index)
    outputs: list[int] = []
    for name in classes:
        number = largest_output([name])
        if number is not None and number < len(names):
            found = [number]
        else:
            found = known.get(_plain(name), [])
        if not found:
            near = difflib.get_close_matches(_plain(name), known, n=4)
            raise OnrError(
                f"{data} has the class {name!r}, which is no output of {model}: expected one as "
                f"{', '.join(near) or _some(names)}{advice}"
            )
        if len(found) > 1:
            what = " and ".join(f"output {index} ({names[index]})" for index in found)
            raise OnrError(f"{data} has the class {name!r}, which is {what} of {model}{advice}")
        outputs += found
    for index, output in enumerate(outputs):
        if output in outputs[:index]:
            first = classes[outputs.index(output)]
            raise OnrError(
                f"{data}: the classes {first!r} and {classes[index]!r} are both output {output} "
                f"of {model}, {names[output]!r}: leave one out"
            )
    return outputs


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _some(names: Sequence[str], count: int = 4) -> str:
    rest = len(names) - count
    return ", ".join(map(repr, names[:count])) + (f" and {rest} more" if rest > 0 else "")
