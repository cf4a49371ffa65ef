"""Write the metrics and pictures of a run as event files for TensorBoard, by tensorboardX.

The files are made of what the run's folder has: when a training begins or goes on, all events up
to its step are written anew from metrics.jsonl and samples/, and earlier event files are removed.
So steps that were cut off do not appear twice, a file that was cut by the end of a process does not
matter, and a run that was trained without the option gets its whole history. The time of an event
of an earlier session is that of its rewriting, for a picture that of its file.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .run_folder import RunError, sample_pictures

EVENTS = "tensorboard"  # the folder in that of the run
PREFIX, SUFFIX = "events", ".minigan"  # of the files' names; other files in the folder stay


def check_tensorboard() -> None:
    """Import tensorboardX, which also imports PyTorch where that is installed.

    Raises:
        RunError: it is not installed, or cannot be imported.
    """
    try:
        import tensorboardX.event_file_writer  # noqa: F401
    except ImportError as error:
        is_missing = (error.name or "").split(".")[0] == "tensorboardX"
        reason = "is not installed" if is_missing else f"cannot be imported ({error})"
        raise RunError(
            f"TensorBoard's event files need the package tensorboardX, which {reason}; install it"
            " with: pip install -e '.[tensorboard]', or pip install tensorboardX"
        ) from None


class EventFile:
    """The event file of a training, in the folder RUN/tensorboard.

    Events are written by this thread: an error of the disk is raised, and not lost in another.

    Args:
        folder: the run's folder.
        rows: its lines of metrics up to `step`.
        step: the step of the training; later pictures are not of this run any more.

    Raises:
        RunError: tensorboardX is missing.
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        check_tensorboard()
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        events = folder / EVENTS
        events.mkdir(exist_ok=True)
        for path in events.glob(f"{PREFIX}.out.tfevents.*{SUFFIX}"):
            path.unlink()
        self._writer = EventsWriter(str(events / PREFIX), SUFFIX)
        # A TensorBoard that has read the earlier files drops their events from step 0 on.
        self._write(0, time.time(), session_log=SessionLog(status=SessionLog.START))
        for row in rows:
            self.add_metrics(row)
        for shown, path in sample_pictures(folder).items():
            if shown <= step:
                self.add_picture(shown, path)
        self.flush()

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        """Write a scalar for each number of a line of metrics."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "step" and value is not None
        ]
        self._write(row["step"], time.time(), summary=Summary(value=values))

    def add_picture(self, step: int, path: Path) -> None:
        """Write the picture of the samples of a step."""
        from tensorboardX.proto.summary_pb2 import Summary

        with Image.open(path, formats=["PNG"]) as picture:
            (width, height), channels = picture.size, len(picture.getbands())
        image = Summary.Image(
            height=height,
            width=width,
            colorspace=channels,
            encoded_image_string=path.read_bytes(),
        )
        summary = Summary(value=[Summary.Value(tag="samples", image=image)])
        self._write(step, path.stat().st_mtime, summary=summary)
        self.flush()

    def _write(self, step: int, wall_time: float, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(step=step, wall_time=wall_time, **content))

    def flush(self) -> None:
        """Hand the events to the operating system, so that TensorBoard shows them."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()
