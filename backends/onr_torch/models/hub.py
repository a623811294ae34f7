"""Folders of a model's files: on this machine, or a repository of the Hugging Face Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onr.errors import OnrError
from onr_torch.models.logits import reason
from onr_torch.models.published import Source

__all__ = ["Place", "is_folder", "settings_in"]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""The file that names the parts of weights that are split over several files."""
FILES = ("config.json", "preprocessor_config.json", WEIGHTS, INDEX, "model-*.safetensors")
"""The files that are downloaded: none of them is code or a pickle."""


def is_folder(text: str) -> bool:
    """Whether a text names a folder: it starts with ``/``, ``./``, ``../`` or ``~``.

    Example:
        >>> is_folder("./mine"), is_folder("owner/name")
        (True, False)

    """
    return text in (".", "..") or text.startswith(("/", "./", "../", "~"))


class Place:
    """Where the files of a model are: ``ID``, ``ID@REVISION`` of the Hub, or a folder.

    Args:
        spec: ``owner/name``, ``owner/name@REVISION`` (a branch, a tag or the hash of a commit), or
            a folder, which starts with ``/``, ``./``, ``../`` or ``~``.
        what: how errors name the model.
        download: whether files may be downloaded; if not, they have to be in the cache of the Hub.

    Example:
        >>> Place(str(tmp_path), what="my model", download=False).folder() == tmp_path
        True

    """

    def __init__(self, spec: str, *, what: str, download: bool) -> None:
        self._spec, self._what, self._download = spec, what, download

    def folder(self) -> Path:
        """The folder with the files.

        Raises:
            OnrError: there is no such folder or repository, or it is not on this machine and may
                not be downloaded.

        """
        if is_folder(self._spec):
            folder = Path(self._spec).expanduser().absolute()
            if not folder.is_dir():
                raise OnrError(f"{self._what}: there is no folder {folder}")
            return folder
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        name, _, revision = self._spec.partition("@")
        try:
            return Path(
                snapshot_download(
                    name,
                    revision=revision or None,
                    allow_patterns=list(FILES),
                    local_files_only=not self._download,
                )
            )
        except LocalEntryNotFoundError as error:
            if self._download:
                raise OnrError(f"{self._what} could not be downloaded: {error}") from error
            raise OnrError(
                f"{self._what} is not in the cache of the Hub: give --download to fetch it, or a "
                "folder with its files, as ./FOLDER"
            ) from error
        except Exception as error:
            raise OnrError(f"{self._what} could not be found: {reason(error)}") from error

    def source(self) -> Source:
        """The safetensors files of the weights, with the settings beside them.

        Raises:
            OnrError: there are no safetensors files, or the folder cannot be found.

        """
        folder = self.folder()
        if (folder / WEIGHTS).exists():
            weights = [WEIGHTS]
        elif (folder / INDEX).exists():
            weights = sorted(set(settings_in(folder / INDEX, self._what)["weight_map"].values()))
        else:
            raise OnrError(
                f"{self._what}: {folder} has no {WEIGHTS}: other formats may run code and are not "
                "read; save the model with safetensors"
            )
        files = [folder / name for name in weights]
        files += [folder / name for name in FILES[:2] if (folder / name).exists()]
        for file in files:
            if not file.exists():
                raise OnrError(f"{self._what}: {file} is missing: give --download to fetch it")
        if is_folder(self._spec):
            return Source(tuple(files), {"folder": str(folder)})
        # The cache has a folder for each commit, named by its hash.
        return Source(
            tuple(files), {"repository": self._spec.partition("@")[0], "commit": folder.name}
        )


def settings_in(file: Path, what: str) -> dict[str, Any]:
    """The settings in a JSON file.

    Raises:
        OnrError: the file is missing or holds no JSON object.

    Example:
        >>> _ = (tmp_path / "config.json").write_text('{"num_classes": 3}')
        >>> settings_in(tmp_path / "config.json", "my model")
        {'num_classes': 3}

    """
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise OnrError(f"{what}: {file} cannot be read ({told})") from error
    if not isinstance(found, dict):
        raise OnrError(f"{what}: {file} holds no settings by name")
    return found
