"""Folders of the user's own image files, which are resized, cropped and read as they are used."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onr.data import Dataset, LaterSplit, Preparation, Split, StoredImages
from onr.errors import OnrError

__all__ = ["folder"]

TESTS = ("test", "val", "validation")
"""The names that the folder of the test part may have; the first that is there counts."""
NAMES = "classes.txt"
"""The file that gives folders other names of classes."""
SIZES = re.compile(r"(.+)@(\d+)(?:,(\d+))?")
EXAMINED = 100
"""How many images have their sizes compared at once; those after them, when they are used."""
DEEP = ("I", "F")
"""Pillow's modes of 32 bits a pixel, beside those of 16 as ``I;16``: RGB would clip them at 255."""


def folder(
    path: str, *, data_dir: Path, download: bool = False, preparation: Preparation | None = None
) -> Dataset:
    """The user's own image files, in ``PATH/test/CLASS/`` (or ``val``) and ``PATH/train/CLASS/``.

    Without a training part ``PATH/CLASS/`` is enough. Files and folders whose names begin with a
    dot do not count. Images are RGB, uint8, read when they are used; ``files`` of a part names them
    as ``CLASS/FILE``. As torchvision does, rotation
    in EXIF data is ignored and transparency is dropped. Their order is that of a hash of
    ``CLASS/FILE``, so that the first few are of all classes. A line ``FOLDER = NAME`` of the file
    ``PATH/classes.txt`` gives the class of a folder another name.

    Args:
        path: the folder. ``PATH@256,224`` resizes the shorter side of each image to 256 and crops
            224 x 224 at the centre; ``PATH@224`` does both to 224.
        data_dir: ignored.
        download: ignored.
        preparation: how a published model has its images resized and cropped; sizes in ``path`` go
            before it. Without either all images must have one size.

    Raises:
        OnrError: a folder is missing, the classes of the parts differ, or so do the sizes of the
            first hundred images. Where images are used: an image cannot be read, has more than
            eight bits a channel, or differs in size.

    Example:
        >>> from PIL import Image
        >>> for name, size in (("ant", (40, 30)), ("bee", (32, 64))):
        ...     (tmp_path / "test" / name).mkdir(parents=True)
        ...     Image.new("RGB", size).save(tmp_path / "test" / name / "0.png")
        >>> found = folder(f"{tmp_path}@32,28", data_dir=tmp_path)
        >>> found.input_shape, found.classes
        ((3, 28, 28), ('ant', 'bee'))

    """
    sized = SIZES.fullmatch(path)
    if sized is not None:
        path, side, crop = sized[1], int(sized[2]), int(sized[3] or sized[2])
        if not 1 <= crop <= side:
            raise OnrError(f"folder:{path}@{side},{crop}: expected 1 <= crop <= shorter side")
        way = "bilinear" if preparation is None else preparation.interpolation
        preparation = Preparation(side, (crop, crop), way)
    root, what = Path(path), f"folder:{path}"
    there = [name for name in TESTS if (root / name).is_dir()]
    trained = (root / "train").is_dir()
    if trained and not there:
        raise OnrError(f"{what} has the folder train, but none of {', '.join(TESTS)}")
    test, found = _part(root / there[0] if there else root, what, preparation)
    names = _names(root / NAMES, found)

    def training() -> Split:
        if not trained:
            raise OnrError(f"{what} has no training part, which is {root / 'train'}/CLASS/IMAGE")
        train, classes = _part(root / "train", what, preparation)
        if classes != found:
            raise OnrError(f"{what}: train has classes {classes}, {there[0]} has {found}")
        return train

    prepared = None if preparation is None else str(preparation)
    dataset = Dataset(what, LaterSplit(training), test, tuple(names))
    return replace(dataset, preparation=prepared)


def _part(place: Path, what: str, preparation: Preparation | None) -> tuple[Split, list[str]]:
    """The images of a folder, which are not read yet, and the names of its folders."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    advice = (
        "expected test/CLASS/IMAGE in it (or val), and train/CLASS/IMAGE to train; or CLASS/IMAGE"
    )
    try:
        inside = sorted(each.name for each in place.iterdir() if each.is_dir())
    except OSError as error:
        raise OnrError(f"{what}: {place}: {error.strerror}: {advice}") from error
    classes = [name for name in inside if _shown(Path(name))]
    if not classes:
        raise OnrError(f"{what}: {place} has no folders of classes: {advice}")
    numbers = {name: index for index, name in enumerate(classes)}
    found = make_dataset(place, numbers, IMG_EXTENSIONS, allow_empty=True)
    found = [sample for sample in found if _shown(Path(sample[0]).relative_to(place))]
    empty = sorted(set(range(len(classes))) - {label for _, label in found})
    if empty:
        raise OnrError(
            f"{what}: {place / classes[empty[0]]} has no image, a file that ends with "
            f"{', '.join(IMG_EXTENSIONS)}: {advice}"
        )

    def name(file: str) -> bytes:
        return os.fsencode(Path(file).relative_to(place).as_posix())

    samples = sorted(found, key=lambda sample: hashlib.sha256(name(sample[0])).digest())
    files = [file for file, _ in samples]
    names = [name(file).decode(errors="replace") for file in files]
    prepare = _prepared(preparation)
    size = _size(files[0]) if preparation is None else preparation.crop
    shape = (3, *size)

    def require_size(file: str, found: tuple[int, ...]) -> None:
        if found != size:
            sizes = [f"{height} x {width}" for height, width in (found, size)]
            raise OnrError(
                f"{file} is {sizes[0]} (height x width), {files[0]} {sizes[1]}: all must have one "
                "size; folder:PATH@RESIZE,CROP gives them one, as "
                f"{what}@256,224, which resizes the shorter side to 256 and crops 224 x 224"
            )

    def read(rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *shape), np.uint8)
        for place, row in enumerate(rows):
            image = _pixels(files[row], prepare)
            require_size(files[row], image.shape[1:])
            images[place] = image
        return images

    if preparation is None:
        for file in files[:EXAMINED]:
            require_size(file, _size(file))
    images = StoredImages(shape, np.uint8, np.arange(len(files)), read, where=what, files=names)
    return Split(images, np.array([label for _, label in samples], np.int64)), classes


def _shown(path: Path) -> bool:
    """Whether no part of a relative path begins with a dot."""
    return not any(part.startswith(".") for part in path.parts)


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    """An image of Pillow, of which only the head is read yet."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except Exception as error:
        raise OnrError(f"{file} cannot be read as an image: {error}") from error


def _size(file: str) -> tuple[int, int]:
    """Height and width of an image."""
    with _opened(file) as image:
        return image.height, image.width


def _deep(image: Any) -> str:
    """What says that an image has more than eight bits a channel; empty if nothing does.

    Pillow has no mode for several deep channels: it keeps the upper eight bits, and only the
    arguments of its decoders tell.
    """
    if image.mode in DEEP or image.mode.startswith("I;"):
        return f"mode {image.mode}"
    for decoder, _, _, arguments in image.tile:
        for each in arguments if isinstance(arguments, tuple) else (arguments,):
            if isinstance(each, str) and ";16" in each:
                return each
            if decoder.startswith("ppm") and isinstance(each, int) and each > 255:
                return f"values up to {each}"
    return ""


def _pixels(file: str, prepare: Callable[..., object]) -> np.ndarray:
    """One image, ``(3, H, W)``."""
    with _opened(file) as image:
        if deep := _deep(image):
            raise ValueError(
                f"more than eight bits a channel ({deep}) would be cut off; save "
                "it with eight, or give arrays of floats as npz:STEM"
            )
        return np.asarray(prepare(image.convert("RGB"))).transpose(2, 0, 1)


def _prepared(preparation: Preparation | None) -> Callable[..., object]:
    """The function that resizes and crops."""
    if preparation is None:
        return lambda image: image
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    side = preparation.resize
    way = InterpolationMode(preparation.interpolation)
    resize = Resize(side if isinstance(side, int) else list(side), way)
    steps: Callable[..., object] = Compose([resize, CenterCrop(list(preparation.crop))])
    return steps


def _names(file: Path, folders: list[str]) -> list[str]:
    """The names of the classes: those of the folders, unless the file has others."""
    if not file.exists():
        return folders
    named: dict[str, str] = {}
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OnrError(f"{file} cannot be read: {error}: expected text in UTF-8") from error
    for line in text.splitlines():
        place, equals, name = (text.strip() for text in line.partition("="))
        if not line.strip():
            continue
        if not equals or not name or place not in folders or place in named:
            raise OnrError(
                f"{file}: {line!r}: expected FOLDER = NAME, each folder once; they are "
                f"{', '.join(folders[:4])}{' and so on' if len(folders) > 4 else ''}"
            )
        named[place] = name
    return [named.get(place, place) for place in folders]
