"""The command line: `python -m hw3 data|train|evaluate|predict`, each with --help."""

import os
import re
import reprlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm
from tyro.constructors import PrimitiveConstructorSpec

from hw3 import records, settings
from hw3.data import InputError, expanded, outputs, pictures, write_atomically
from hw3.settings import SegmentationSettings, Settings
from hw3.training import processes

TOLERANCE = 1e-6


def _typed(kind: type) -> PrimitiveConstructorSpec:
    """How a path of the command line is read: `~` is the home folder, and nothing is no path."""

    def read(words: list[str]) -> Any:
        if not words[0]:
            raise InputError("a path is empty: give a file or a folder")
        return kind(expanded(words[0]))

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


Place = Annotated[Path, _typed(Path)]
Source = Annotated[str, _typed(str)]


def data_lgg(source: Source = "kaggle", to: Place | None = None, quick: bool = False) -> None:
    """Get the brain MRI data set LGG and check it.

    Args:
        source: `kaggle` (downloads; no account needed), the zip that Kaggle gives, or a folder.
        to: where a zip is unpacked; the data folder (HW3_DATA) if not given.
        quick: pair the files by name alone, without decoding them.
    """
    from hw3.segmentation import lgg

    folder = lgg.fetch_lgg(source, to or settings.data_folder())
    pairs = lgg.find_slices(folder)
    if not quick:
        size = SegmentationSettings().image_size
        lgg.read_lgg(folder, size=size, cache=settings.data_folder() / "cache")
    patients = {image.parent.name for image, _ in pairs}
    print(f"{folder}: {len(pairs)} slices of {len(patients)} patients, each with its mask")
    print(f"train on them: HW3_PROFILE=full python -m hw3 train unet --data {folder}")


def data_gtsdb(source: Source = "download", to: Place | None = None, quick: bool = False) -> None:
    """Get the traffic-sign data set GTSDB and check it.

    Args:
        source: `download`, the publisher's archive as a file, or a folder.
        to: where the archive is kept and unpacked; the data folder (HW3_DATA) if not given.
        quick: read the images' headers alone, without decoding them.
    """
    from hw3.detection import gtsdb

    found = gtsdb.read_gtsdb(gtsdb.fetch_gtsdb(source, to or settings.data_folder()))
    faults = []
    for index in tqdm(() if quick else range(len(found)), "decoding", disable=None, leave=False):
        try:
            found.image(index)
        except InputError as fault:
            faults.append(f"\n  {fault}")
    if faults:
        fault = f"{len(faults)} fault(s), unpack it anew:{''.join(faults)}"
        raise InputError(f"{found.folder}: {fault}")
    for notice in found.notices:
        print(notice)
    print(f"{found.folder}: {len(found)} images, {sum(map(len, found.labels))} signs")
    command = "HW3_PROFILE=full python -m hw3 train faster-rcnn"
    print(f"train on them: {command} --data {found.folder}")


@dataclass(frozen=True)
class RunOptions:
    """Where a run gets its data, and where it leaves what it makes."""

    recipe: Literal["report", "ours"] | None = None
    """The settings that are not given; the profile's recipe if not given."""
    data: Source | None = None
    """Folder or archive of the real data; the profile's data if not given."""
    name: str = ""
    """Of the record; the model's name if not given."""
    runs: Place | None = None
    """Folder for record, weights and checkpoint; HW3_RUNS if not given."""
    record: Place | None = None
    """A second place to write the finished record to."""
    note: str = ""
    """A remark on the data, kept in the record."""
    workers: int | None = None
    """Processes that load data; by default none on a CPU, and a few beside a GPU."""


def train(chosen: Settings, options: RunOptions) -> None:
    """Train and score a network. Called again, it goes on where it stopped."""
    if options.workers is not None and options.workers < 0:
        raise InputError(f"workers is {options.workers}: choose 0 or more")
    experiment = _experiment(chosen.model)
    if options.record:
        if options.record.is_dir():
            raise InputError(f"--record is {options.record}, a folder: name a file")
        records.check_writable(options.record.parent)
    with processes().local_main_process_first():  # which fetches the data; the others find them
        dataset = experiment.prepare(settings.active(), options.data, chosen)
    folder, name = options.runs or settings.runs_folder(), options.name or chosen.model
    done, _ = experiment.run(chosen, dataset, folder, name, options.note, options.workers)
    if processes().is_main_process:  # it alone knows the digest of the weights
        print(f"record: {folder / done.stem}.json")
        if options.record:
            print(f"record: {done.save(options.record)}")
        print(f"weights: {done.weights_in(folder)}")
        print(experiment.headline(done))


def evaluate(
    record: tyro.conf.Positional[Place],
    data: Source | None = None,
    weights: Place | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Derive a record's results again from its evidence, and compare.

    Args:
        record: a JSON file that train wrote.
        data: also predict anew on this data (a folder or an archive), with --weights.
        weights: the trained weights file.
        tolerance: difference up to which two numbers agree. Predicted anew on other hardware,
            scores differ a little.
    """
    if not tolerance >= 0:  # nor is nan
        raise InputError(f"--tolerance is {tolerance}: choose 0 or more")
    if (data is None) != (weights is None):
        raise InputError("--data and --weights go together: predicting anew needs both")
    found = records.load(record)
    experiment = _experiment(found.settings.get("model"), str(record))
    if not found.results:
        raise InputError(f"{record}: holds no results; give the record of a finished run")
    if weights is not None:
        found.evidence = experiment.predict_evidence(found, data, weights)
    differences = compare(found.results, experiment.derive_results(found), tolerance)
    for path, before, after in differences:
        print(f"{path}: recorded {before}, now {after}")
    if differences:
        raise InputError(f"{record}: {len(differences)} entries differ by more than {tolerance}")
    print(f"{record}: every entry of the results agrees within {tolerance}")


@dataclass(frozen=True)
class PredictOptions:
    """Whose weights are used, and where the results go."""

    record: Place | None = None
    """Of the run whose weights are used; if not given, weights that come with this package."""
    weights: Place | None = None
    """Their file; the one beside the record if not given."""
    to: Place = Path()
    """Folder to write to."""
    encoder_weights: Source = "imagenet"
    """Of unet without a record: its frozen VGG16, imagenet (torchvision's, downloaded once) or a
    file of these."""


Images = tyro.conf.Positional[tuple[Place, ...]]


def predict(model: str, images: Images, options: PredictOptions) -> None:
    """Look at pictures of your own; two files tell what is found in each, and replace older ones.

    unet outlines tumours: <name>_predicted.png (mask) and <name>_overlay.png. The others find
    signs: <name>_signs.json (those with a score of at least 0.05; bbox is x, y, width, height in
    pixels of the upright picture) and <name>_boxes.png (of at least 0.5).

    Args:
        images: files, folders, or patterns in quotes.
    """
    if not images:
        raise InputError("no images given: name files, folders, or patterns in quotes")
    path, experiment = options.record or records.shipped(model), _experiment(model)
    paths = pictures(images, experiment.ENDINGS)
    more = {"encoder_weights": options.encoder_weights} if model == "unet" else {}
    if not more and options.encoder_weights != PredictOptions.encoder_weights:
        raise InputError(f"--encoder-weights is {options.encoder_weights}: only unet takes it")
    chosen, network = experiment.load(path, options.weights, **more)
    if chosen.model != model:
        raise InputError(f"{path}: a record of {chosen.model}, not of {model}; give another")
    targets, faults = outputs(paths, options.to, experiment.ENDINGS), 0
    for number, (picture, own) in enumerate(targets.items()):
        try:
            contents = experiment.look(chosen, network, picture, number)
        except InputError as fault:
            print(fault, file=sys.stderr)
            faults += 1
            continue
        for target, content in zip(own, contents, strict=True):
            write_atomically(target, content)
            print(target)
    if faults:
        rest = "; the others are done" * (faults < len(paths))
        raise InputError(f"{faults} of {len(paths)} images cannot be read{rest}")


def compare(
    before: Any, after: Any, tolerance: float = TOLERANCE, path: str = ""
) -> list[tuple[str, Any, Any]]:
    """Every leaf of recorded results that differs by more than the tolerance.

    Scores that a later version has added are no difference.
    """
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if isinstance(before, dict) and isinstance(after, dict):
        differences = []
        for key, value in before.items():
            place = f"{path}.{key}".strip(".")
            differences += compare(value, after.get(key), tolerance, place)
        return differences
    numbers = all(isinstance(value, float) or type(value) is int for value in (before, after))
    numbers = numbers and max(map(abs, (before, after))) < 2**63  # larger ones have no difference
    same = abs(before - after) <= tolerance if numbers else before == after
    return [] if same else [(path, before, after)]


def commands(recipe: str | None = None) -> dict[str, dict[str, Callable] | Callable]:
    """All commands; those that train take their defaults from the recipe and the profile."""
    own = {name: settings.recipe(name, recipe) for name in settings.REPORT}
    return {
        "data": {"lgg": data_lgg, "gtsdb": data_gtsdb},
        "train": {
            name: partial(train, chosen=chosen, options=RunOptions(recipe))
            for name, chosen in own.items()
        },
        "evaluate": evaluate,
        "predict": {name: partial(predict, name, options=PredictOptions()) for name in own},
    }


def main(arguments: list[str] | None = None) -> int:
    """Run one command: 0 if it succeeded, 2 for unusable input, 130 if it was interrupted."""
    chosen = sys.argv[1:] if arguments is None else arguments
    program = "python -m hw3"
    if isinstance(sys.stdout, TextIOWrapper):  # names that it has no letters for
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        table = commands(_recipe_in(chosen))
        if chosen and isinstance(nested := table.get(chosen[0]), dict):
            program, chosen, table = f"{program} {chosen[0]}", chosen[1:], nested
        tyro.extras.subcommand_cli_from_dict(
            {name: _group(name, entry) for name, entry in table.items()},
            prog=program,
            args=chosen,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except BrokenPipeError:  # who reads, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = error.filename2 or error.filename or "a file"
        remedy = "make room or choose another place (--runs, --to, HW3_DATA, HW3_RUNS)"
        print(f"error: {place}: {error.strerror or error}; {remedy}", file=sys.stderr)
        return 2
    except (InputError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        print(str(interruption) or "stopped", file=sys.stderr)
        return 130
    return 0


def _recipe_in(arguments: list[str]) -> str | None:
    """What --recipe names: the defaults of all other options depend on it."""
    found = re.findall(r"(?:^|\0)--recipe[=\0]([^\0]*)", "\0".join(arguments))
    return found[-1] if found else None


def _experiment(model: Any, record: str = "") -> ModuleType:
    """Imported late, so that --help and the other question's runs start at once."""
    if model not in [*settings.REPORT]:
        known = ", ".join(settings.REPORT)
        raise InputError(f"{record}: its model is {reprlib.repr(model)}; known are {known}")
    if model == SegmentationSettings.model:
        from hw3.segmentation import experiment
    else:
        from hw3.detection import experiment
    return experiment


def _group(name: str, entry: Callable | dict[str, Callable]) -> Callable:
    """A command, or for a group of commands one that stands for it in the overview."""
    if callable(entry):
        return entry

    def overview() -> None:
        raise InputError(f"{name} what? One of: {', '.join(entry)}")

    overview.__doc__ = f"{name.capitalize()}: {', '.join(entry)}."
    return overview


if __name__ == "__main__":
    sys.exit(main())
