"""Progress on stderr: a bar with the time left, which long work is told of through one plain function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from detectors.protocol import Progress, no_progress

_current: ContextVar[Progress] = ContextVar("progress", default=no_progress)


def current_progress() -> Progress:
    """What the command in the foreground wants to be told with; nothing under a worker."""
    return _current.get()


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a bar on stderr while the block runs, if a person is looking at it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"{title}: {what}", completed=done, total=total)

        token = _current.set(tell)
        try:
            yield tell
        finally:
            _current.reset(token)
