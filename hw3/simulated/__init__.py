"""Data sets that the package makes itself, in their publishers' layouts: nothing is fetched."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hw3.data import InputError, sweep


def make_once(target: Path, settings: dict[str, int | None], write: Callable[[Path], None]) -> Path:
    """Let `write` fill a folder that becomes `target`, whole or not at all; keep one that is there.

    Raises:
        InputError: if `target` holds anything else than `settings` make, or cannot be written.
    """
    marker = target / ".simulated.json"
    try:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target.parent)
            with TemporaryDirectory(prefix=".unpacking-", dir=target.parent) as temporary:
                folder = Path(temporary) / target.name
                folder.mkdir()
                write(folder)
                (folder / marker.name).write_text(json.dumps(settings))
                with suppress(OSError):  # another process was first: its result is checked below
                    folder.rename(target)
        held = marker.read_text() if marker.exists() else "files that were not simulated"
    except OSError as error:
        remedy = "make room, or choose a folder that can be written to"
        raise InputError(f"{target}: not written ({error}); {remedy}") from None
    if held != json.dumps(settings):
        raise InputError(f"{target} holds {held}, not {settings}: remove it or choose another")
    return target
