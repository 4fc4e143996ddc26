"""A job's log as `rayfed run` shows a run: on a terminal lines of progress move, in a pipe they stay lines."""

import re
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import TaskID

from rayfed.console.display import progress_on

PROGRESS = re.compile(
    r"(?:(?P<name>.+): )?round (?P<done>\d+)/(?P<rounds>\d+)  (?P<rate>\S+) images/s  "
    r"up (?P<up>\S+) MB  down (?P<down>\S+) MB(?:  (?P<judged>.+))?"
)
"""What `rayfed.console.display.Line` writes to a log file."""


class JobLog:
    """Shows the lines of a log, on stdout. A context, in which the lines move."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.progress = progress_on(self.console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "JobLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks:
            self.progress.stop()

    def line(self, text: str) -> None:
        """One line of the log."""
        found = PROGRESS.fullmatch(text) if self.console.is_terminal else None
        if not found:
            self.console.print(text, soft_wrap=True, markup=False)
            return
        name = found["name"] or "round"
        fields: dict[str, Any] = {
            "rate": found["rate"],
            "up": found["up"],
            "down": found["down"],
            "judged": found["judged"] or "",
        }
        if name not in self._tasks:
            self._tasks[name] = self.progress.add_task(name, **fields)
            self.progress.start()
        self.progress.update(
            self._tasks[name], completed=int(found["done"]), total=int(found["rounds"]), refresh=True, **fields
        )
