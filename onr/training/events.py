"""A run's record as TensorBoard events."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

__all__ = ["Events"]


class Events:
    """Event files that hold what ``metrics.jsonl`` does: each number of a record, by epoch.

    Args:
        folder: where they go; what is there is replaced.
        records: the epochs that are over.

    """

    def __init__(self, folder: Path, records: list[dict[str, Any]]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = EventFileWriter(str(folder))
        for record in records:
            self.add(record)

    def add(self, record: dict[str, Any]) -> None:
        """Write an epoch's numbers, at once."""
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in record.items()
            if isinstance(value, int | float) and name != "epoch"
        ]
        self._writer.add_event(Event(step=record["epoch"], summary=Summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
