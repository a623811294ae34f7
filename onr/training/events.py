"""Write the record of a run as TensorBoard events."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

__all__ = ["Events"]


class Events:
    """TensorBoard event files with the numbers of ``metrics.jsonl``, one step for each epoch.

    Args:
        folder: the folder for the event files; an existing folder is replaced.
        records: the records of the epochs that are already finished.

    Example:
        >>> events = Events(tmp_path / "events", [{"epoch": 1, "cost": 0.5}])
        >>> events.add({"epoch": 2, "cost": 0.25})
        >>> events.close()

    """

    def __init__(self, folder: Path, records: list[dict[str, Any]]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = EventFileWriter(str(folder))
        for record in records:
            self.add(record)

    def add(self, record: dict[str, Any]) -> None:
        """Write the numbers of one epoch, and flush the file."""
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in record.items()
            if isinstance(value, int | float) and name != "epoch"
        ]
        self._writer.add_event(Event(step=record["epoch"], summary=Summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
