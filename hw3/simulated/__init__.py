"""Data sets that the package makes itself, in their publishers' layouts: nothing is fetched."""

import json
from collections.abc import Callable
from pathlib import Path

from hw3.data import InputError, whole_folder


def make_once(target: Path, settings: dict[str, int | None], write: Callable[[Path], None]) -> Path:
    """Let `write` fill `target`, whole or not at all; keep one of the same settings."""
    marker = target / ".simulated.json"
    try:
        if not target.exists():
            with whole_folder(target) as folder:
                write(folder)
                (folder / marker.name).write_text(json.dumps(settings))
        held = marker.read_text() if marker.exists() else "files that were not simulated"
    except OSError as error:
        remedy = "make room, or choose a folder that can be written to"
        raise InputError(f"{target}: not written ({error}); {remedy}") from None
    if held != json.dumps(settings):
        raise InputError(f"{target} holds {held}, not {settings}: remove it or choose another")
    return target
