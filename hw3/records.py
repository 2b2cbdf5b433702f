"""Records of runs: what was run, on which data, where, for how long, and what came out.

A record is one JSON file that a person can read. It holds the evidence (integer counts or
detections) from which every entry of its results can be derived again.
"""

import ast
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_origin

import torch

from hw3.errors import InputError

SCHEMA = 1
PACKAGES = ("torch", "torchvision", "albumentations", "accelerate", "numpy")


@dataclass
class RunRecord:
    """One run. The order of the fields is the order of the keys in the file.

    Example:
        >>> record = RunRecord(name="unet", settings={"epochs": 2}, data={"kind": "real"}, seed=0)
        >>> record.settings["epochs"], record.schema, record.history
        (2, 1, [])
    """

    name: str
    settings: dict[str, Any]
    """The settings dataclass as a dictionary."""
    data: dict[str, Any]
    """kind (simulated or real), fingerprint, counts, split ids, note."""
    seed: int
    schema: int = SCHEMA
    key: str = ""
    """Hash of settings, data fingerprint and source code, by which the run is found again."""
    command: str = ""
    commit: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    """Of the session that finished the run, as are command, commit and versions."""
    seconds_training: float = 0.0
    """Optimisation steps only, without validation, over all resumptions."""
    seconds_per_image: float = 0.0
    """Inference, wall clock, over the images that were scored."""
    weights: dict[str, str] = field(default_factory=dict)
    """sha256 of the trained weights file, and how the network was initialised."""
    history: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """File name without ending, for the record, its weights and its checkpoint.

        Example:
            >>> RunRecord("unet", settings={}, data={}, seed=0, key="0123456789abcdef").stem
            'unet-0123456789'
        """
        return f"{self.name}-{self.key[:10]}"

    @property
    def samples(self) -> int:
        """Slices, images or crops seen in training, over all epochs.

        Example:
            >>> record = RunRecord("unet", settings={}, data={}, seed=0)
            >>> record.history = [{"samples": 400}, {"samples": 400}]
            >>> record.samples
            800
        """
        return sum(epoch["samples"] for epoch in self.history)

    @property
    def device_minutes(self) -> float:
        """Minutes of training steps, times the threads or GPUs that took them.

        Older records do not say it by epoch: theirs are the number that the last session had.

        Example:
            >>> record = RunRecord("unet", settings={}, data={}, seed=0, seconds_training=90.0)
            >>> record.hardware = {"device": "CPU", "count": 2}
            >>> record.device_minutes
            3.0
        """
        if self.history and all("device_seconds" in epoch for epoch in self.history):
            return sum(epoch["device_seconds"] for epoch in self.history) / 60
        return self.seconds_training * self.hardware["count"] / 60

    def save(self, path: Path) -> Path:
        """Write the record to `path` so that a reader sees the old file or the new, never half.

        Example:
            >>> record = RunRecord("unet", settings={"epochs": 2}, data={}, seed=0)
            >>> path = record.save(folder / "unet.json")
            >>> path.read_text().splitlines()[:4]
            ['{', ' "name": "unet",', ' "settings": {', '  "epochs": 2']
        """
        write_atomically(path, _dumps(self.__dict__).encode())
        return path


def load(path: Path) -> RunRecord:
    """Read one record.

    Raises:
        InputError: if the file is no record, or of another schema version.

    Example:
        >>> record = RunRecord("unet", settings={"epochs": 2}, data={}, seed=0)
        >>> path = record.save(folder / "unet.json")
        >>> load(path).settings
        {'epochs': 2}
    """
    try:
        content = json.loads(Path(path).read_bytes())
        if content["schema"] != SCHEMA:
            fault = f"schema {content['schema']}, but this version reads {SCHEMA}"
            raise InputError(f"{path}: {fault}; give another record, or train again")
        record = RunRecord(**{name: content[name] for name in _FIELDS})
        for item in fields(RunRecord):
            kind = get_origin(item.type)  # dict or list; None for what has no members
            if kind and not isinstance(content[item.name], kind):
                raise TypeError(f"{item.name} is no {kind.__name__}")
        return record
    except OSError as error:
        raise InputError(
            f"{path}: no record to read ({error.strerror}); give the JSON file that train wrote"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        fault = f"not a run record ({type(error).__name__}: {error})"
        raise InputError(f"{path}: {fault}; give the file that train wrote") from None


def load_seeds(path: Path) -> list[RunRecord]:
    """The record at `path`, and those of its other seeds beside it, `<stem>-seed<number>.json`.

    Example:
        >>> for seed, ending in enumerate(("", "-seed1")):
        ...     record = RunRecord("ssd300", settings={}, data={}, seed=seed)
        ...     _ = record.save(folder / f"ssd300{ending}.json")
        >>> [record.seed for record in load_seeds(folder / "ssd300.json")]
        [0, 1]
    """
    path = Path(path)
    others = path.parent.glob(f"{path.stem}-seed[0-9]*.json")
    return sorted(map(load, [path, *others]), key=lambda record: record.seed)


def chain(record: RunRecord, known: Iterable[RunRecord]) -> list[RunRecord]:
    """The run, the one whose weights it goes on from, the one before that, and so on.

    Args:
        record: the last of them.
        known: runs that may be among them. A run that starts from the weights of none of these is
            the chain's first.

    Example:
        >>> first, second = (RunRecord(name, {}, data={}, seed=0) for name in ("first", "second"))
        >>> first.weights = {"sha256": "f00d", "start": "random"}
        >>> second.weights = {"sha256": "beef", "start": "file", "start_sha256": "f00d"}
        >>> [own.name for own in chain(second, known=[first, second])]
        ['second', 'first']
    """
    by_weights = {own.weights["sha256"]: own for own in known if "sha256" in own.weights}
    runs = [record]
    while before := by_weights.pop(runs[-1].weights.get("start_sha256"), None):
        runs.append(before)
    return runs


def find(folder: Path, record: RunRecord) -> RunRecord | None:
    """The finished run with the same name and key in `folder`, or None: never a stale one.

    Example:
        >>> record = RunRecord("unet", settings={}, data={}, seed=0, key="0123456789abcdef")
        >>> record.save(folder / f"{record.stem}.json").name
        'unet-0123456789.json'
        >>> find(folder, record).stem
        'unet-0123456789'
    """
    path = folder / f"{record.stem}.json"
    if not path.exists():
        return None
    found = load(path)
    return found if found.key == record.key else None


def run_key(settings: Any, fingerprint: str, sources: list[Path]) -> str:
    """SHA-256 over the settings, the data's fingerprint and the code that decides the result.

    Example:
        >>> run_key({"epochs": 2}, fingerprint="f00d", sources=[])[:10]
        '618f3a8c70'
        >>> run_key({"epochs": 3}, fingerprint="f00d", sources=[])[:10]
        '210678e970'
    """
    digest = hashlib.sha256(json.dumps([SCHEMA, settings, fingerprint], sort_keys=True).encode())
    for path in sorted(sources):
        digest.update(f"{path.name}{code_sha256(path)}".encode())
    return digest.hexdigest()


def code_sha256(path: Path) -> str:
    """SHA-256 of what a Python file does: of its tree without comments, layout, descriptions.

    A better description makes no run or data stale. The same file may give another value under
    another version of Python.

    Example:
        A comment changes nothing, another number does:

        >>> for name, text in {"a": b"x = 1", "b": b"x = 1  # a comment", "c": b"x = 2"}.items():
        ...     write_atomically(folder / f"{name}.py", text)
        >>> len({code_sha256(folder / f"{name}.py") for name in "abc"})
        2
    """
    tree = ast.parse(path.read_bytes(), path)
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant and isinstance(statement.value.value, str)


def provenance() -> dict[str, Any]:
    """Command, commit, versions and hardware of this process, as fields of a record.

    Example:
        >>> sorted(provenance())
        ['command', 'commit', 'hardware', 'versions']
    """
    return {
        "command": _command(),
        "commit": _commit(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "hardware": hardware(),
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits.

    Example:
        >>> write_atomically(folder / "abc.txt", b"abc")
        >>> file_sha256(folder / "abc.txt")[:16]
        'ba7816bf8f01cfea'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a neighbour, flush it to the disk, rename it over `path`.

    Example:
        >>> write_atomically(folder / "new" / "note.txt", b"all of it")
        >>> (folder / "new" / "note.txt").read_text()
        'all of it'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


_FIELDS = tuple(item.name for item in fields(RunRecord))


def _dumps(value: Any, depth: int = 0) -> str:
    """JSON with one line a key for three levels, and everything deeper on its key's line."""
    if not isinstance(value, dict | list) or not value or depth == 3 or _is_plain_list(value):
        return json.dumps(value, allow_nan=False)
    pad = " " * (depth + 1)
    if isinstance(value, list):
        body = [pad + _dumps(item, 3) for item in value]
    else:
        keys = _FIELDS if depth == 0 else value
        body = [f"{pad}{json.dumps(str(key))}: {_dumps(value[key], depth + 1)}" for key in keys]
    opening, closing = "[]" if isinstance(value, list) else "{}"
    return f"{opening}\n" + ",\n".join(body) + f"\n{' ' * depth}{closing}" + "\n" * (depth == 0)


def _is_plain_list(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)


def _command() -> str:
    if "ipykernel" in sys.modules:
        return "a notebook of the book"
    program = Path(sys.argv[0])
    module = program.name == "__main__.py"
    start = ["python", "-m", program.parent.name] if module else [program.name]
    profile = os.environ.get("HW3_PROFILE")
    typed = map(_without_folder, sys.argv[1:])
    return f"HW3_PROFILE={profile} " * bool(profile) + shlex.join([*start, *typed])


def _without_folder(word: str) -> str:
    """A folder on somebody's machine says nothing to anybody else."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + (Path(value).name if Path(value).is_absolute() else value)


def _commit() -> str:
    def git(*arguments: str) -> str:
        where = Path(__file__).parent
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=where)
        return done.stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        # Installed inside another repository, the package has no part in that one's history.
        own = git("ls-files", "--", Path(__file__).name)
        changed = head and git("status", "--porcelain", "--", ".")
    except OSError:
        return "unknown"
    return (f"{head} with changes" if changed else head) if own else "unknown"


def hardware() -> dict[str, Any]:
    """The device's name, and how many threads or GPUs work together.

    Example:
        >>> hardware()["count"] >= 1
        True
    """
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    processes = torch.distributed.get_world_size() if together else 1
    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "count": processes}
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "device": f"CPU, {models[0] if models else platform.machine()} ({capability})",
        "count": processes * torch.get_num_threads(),
    }
