"""Records of runs: what was run, on which data, where, for how long, and what came out.

A record is one JSON file that a person can read. It holds the evidence (integer counts or
detections) from which every entry of its results can be derived again.
"""

import hashlib
import json
import os
import platform
import re
import reprlib
import shlex
import subprocess
import sys
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal, TypeVar

import torch
from accelerate import Accelerator
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from torch import nn

from hw3 import __version__
from hw3.backbones import WEIGHTS, load_weights, save_weights
from hw3.data import InputError, expanded, file_sha256, write_atomically
from hw3.settings import NAMED_WEIGHTS, Settings, told

Chosen = TypeVar("Chosen", bound=Settings)
Checked = TypeVar("Checked", bound=BaseModel)
NAME = r"^\w[\w.+-]*$"
"""Files are named after a run."""
PACKAGES = ("torch", "torchvision", "albumentations", "accelerate", "numpy")


@dataclass
class RunRecord:
    """One run. The order of the fields is the order of the keys in the file."""

    name: Annotated[str, Field(pattern=NAME)]
    settings: dict[str, Any]
    """Plain values; `settings_of` makes the pydantic model of them."""
    data: dict[str, Any]
    """kind (simulated or real), fingerprint, counts, split ids, note."""
    seed: int
    schema: Literal[1] = 1
    key: str = ""
    """SHA-256 of settings, data and version, by which the run is found again."""
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
        """File name without ending, for the record, its weights and its checkpoint."""
        return f"{self.name}-{self.key[:10]}"

    def weights_in(self, folder: Path) -> Path:
        """Where the run's weights lie in its folder."""
        return folder / f"{self.stem}.safetensors"

    @property
    def samples(self) -> int:
        """Slices, images or crops seen in training, over all epochs."""
        return sum(epoch["samples"] for epoch in self.history)

    def save(self, path: Path) -> Path:
        """Write the record to `path` so that a reader sees the old file or the new, never half."""
        # A name that is not UTF-8 comes as lone surrogates, which no reader of JSON takes.
        write_atomically(path, _dumps(self.__dict__).encode(errors="replace"))
        return path


_FIELDS = tuple(item.name for item in fields(RunRecord))
_READER = TypeAdapter(RunRecord)


def start(name: str, settings: Settings, weights: str, data: dict[str, Any]) -> RunRecord:
    """A record without results yet, whose files are named after `name` and a key.

    `weights` is how the network starts, a name or a file. A file is recorded by name and content,
    never by a path on somebody's machine.
    """
    if not re.fullmatch(NAME, name):
        raise InputError(f"name is {name!r}: choose letters, digits and . _ + -")
    chosen = {"model": settings.model} | settings.model_dump(mode="json")
    known = {"start": weights}
    if weights not in NAMED_WEIGHTS:
        path = expanded(weights)
        if not path.is_file():
            raise InputError(f"weights: {path} is no file; give one, or what --help lists")
        known = {"start": path.name, "start_sha256": file_sha256(path)}
        chosen |= {name: path.name for name, value in chosen.items() if value == weights}
    content = [RunRecord.schema, __version__, [chosen, known], data["fingerprint"]]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return RunRecord(name, chosen, data, settings.seed, key=key, weights=known, **provenance())


def load(path: Path) -> RunRecord:
    """Read one record; an InputError if the file is none, or of another schema version.

    Example:
        >>> record = RunRecord("unet", settings={"epochs": 2}, data={}, seed=0)
        >>> load(record.save(folder / "unet.json")).settings
        {'epochs': 2}
    """
    remedy = "give the JSON file that train wrote"
    try:
        return _READER.validate_json(Path(path).read_bytes(), strict=True)
    except OSError as error:
        raise InputError(f"{path}: no record to read ({error.strerror}); {remedy}") from None
    except ValidationError as error:
        raise InputError(f"{path}: not a run record ({told(error)}); {remedy}") from None


def shipped(model: str) -> Path:
    """The record of the run whose weights come with this package; they lie beside it.

    It has no history, results or evidence; those are in the book's record of the same name.
    """
    return WEIGHTS / f"{model.replace('-', '_')}.json"


def checked(record: RunRecord, kind: type[Checked], field: str) -> Checked:
    """A record's data or evidence as what it has to be; an InputError names each fault."""
    try:
        return kind.model_validate(getattr(record, field))
    except ValidationError as error:
        remedy = "give the record as train wrote it"
        raise InputError(f"record {record.name}: its {field}: {told(error)}; {remedy}") from None


def load_seeds(folder: Path, stem: str) -> list[RunRecord]:
    """The records `<stem>-seed0.json`, `<stem>-seed1.json`, ... in `folder`."""
    paths = sorted(Path(folder).glob(f"{stem}-seed[0-9].json"))
    if not paths:
        raise InputError(f"{folder}: no record {stem}-seed0.json in it")
    return [load(path) for path in paths]


def finished(record: RunRecord, folder: Path) -> RunRecord | None:
    """The run with the same key if `folder` holds it finished; its weights are checked."""
    path, weights = folder / f"{record.stem}.json", record.weights_in(folder)
    if not path.exists() or not weights.exists():
        return None
    found = load(path)
    if found.key != record.key:
        return None
    if file_sha256(weights) != found.weights.get("sha256"):
        raise InputError(f"{weights}: damaged; delete it to train again")
    return found


def keep(record: RunRecord, model: nn.Module, folder: Path, accelerator: Accelerator) -> None:
    """Write what a run has made, the record last, and remove its checkpoint."""
    record.seconds_training = round(sum(entry["seconds"] for entry in record.history), 1)
    record.hardware["mixed_precision"] = accelerator.mixed_precision
    if accelerator.is_main_process:
        save_weights(model, record.weights_in(folder))
        record.weights["sha256"] = file_sha256(record.weights_in(folder))
        record.save(folder / f"{record.stem}.json")
        checkpoint = folder / f"{record.stem}.checkpoint.pt"
        checkpoint.unlink(missing_ok=True)  # three times as large as the weights


def check_writable(folder: Path) -> None:
    """Notice a folder that cannot be written to before hours of training, not after them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        fault = f"{folder}: cannot be written to ({error.strerror})"
        raise InputError(f"{fault}; choose another folder") from None


def check_weights(record: RunRecord, weights: Path) -> None:
    """Refuse a weights file that is not there, or not the one the record's run made."""
    if not weights.is_file():
        remedy = "give --weights (train leaves it beside its record)"
        raise InputError(f"{weights}: no such weights file; {remedy}")
    if file_sha256(weights) != record.weights.get("sha256"):
        fault = f"{weights}: these are not the weights of record {record.name}"
        raise InputError(f"{fault}; give the record of their run")


def trained(model: nn.Module, weights: Path, accelerator: Accelerator) -> nn.Module:
    """The network with these weights, in evaluation mode, in the accelerator's precision."""
    load_weights(model, weights)
    return accelerator.prepare_model(model.eval(), evaluation_mode=True)


def settings_of(record: RunRecord, *kinds: type[Chosen]) -> Chosen:
    """A record's settings as the model they were, to build its network; or an InputError."""
    chosen = dict(record.settings)
    model = chosen.pop("model", None)
    kind = next((own for own in kinds if own.model == model), None)
    if kind is None:
        known = " or ".join(own.model for own in kinds)
        raise InputError(f"record {record.name}: its model is {reprlib.repr(model)}, not {known}")
    try:
        return kind(**chosen)
    except InputError as error:
        remedy = "train again, or use the record's commit"
        raise InputError(f"record {record.name}: {error}; {remedy}") from None


def provenance() -> dict[str, Any]:
    """Command, commit, versions and hardware of this process, as fields of a record."""
    return {
        "command": _command(),
        "commit": _commit(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "hardware": hardware(),
    }


def hardware() -> dict[str, Any]:
    """The device's name, and how many threads or GPUs work together."""
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


def _dumps(value: Any, depth: int = 0) -> str:
    """JSON with one line a key for three levels, and everything deeper on its key's line."""
    flat = isinstance(value, list) and not any(isinstance(own, dict | list) for own in value)
    if not isinstance(value, dict | list) or not value or depth == 3 or flat:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    pad = " " * (depth + 1)
    if isinstance(value, list):
        body = [pad + _dumps(item, 3) for item in value]
    else:
        keys = _FIELDS if depth == 0 else value
        body = [
            f"{pad}{json.dumps(str(key), ensure_ascii=False)}: {_dumps(value[key], depth + 1)}"
            for key in keys
        ]
    opening, closing = "[]" if isinstance(value, list) else "{}"
    return f"{opening}\n" + ",\n".join(body) + f"\n{' ' * depth}{closing}" + "\n" * (depth == 0)


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
