"""The command line: `python -m hw3 data|train|evaluate|predict`, each with --help."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import tyro

from hw3 import profiles, records
from hw3.errors import InputError
from hw3.profiles import DetectionSettings, FasterRcnnSettings, SegmentationSettings, SsdSettings
from hw3.records import RunRecord
from hw3.training import processes

Images = tyro.conf.Positional[tuple[Path, ...]]
RecordPath = tyro.conf.Positional[Path]
TOLERANCE = 1e-6


def data_lgg(source: str = "kaggle", to: Path | None = None) -> None:
    """Get the brain MRI data set LGG and check it.

    Args:
        source: `kaggle` (downloads; no account needed), the zip that Kaggle gives, or a folder.
        to: where a zip is unpacked; the data folder (HW3_DATA) if not given.
    """
    from hw3.segmentation import dataset

    folder = dataset.fetch_lgg(source, to or profiles.data_folder())
    pairs = dataset.find_slices(folder)
    patients = {image.parent.name for image, _ in pairs}
    print(f"{folder}: {len(pairs)} slices of {len(patients)} patients, each with its mask")
    print(f"train on them with --data {folder}")


def data_gtsdb(source: str = "download", to: Path | None = None) -> None:
    """Get the traffic-sign data set GTSDB and check it.

    Args:
        source: `download`, the publisher's archive as a file, or a folder.
        to: where the archive is kept and unpacked; the data folder (HW3_DATA) if not given.
    """
    from hw3.detection import dataset

    found = dataset.read_gtsdb(dataset.fetch_gtsdb(source, to or profiles.data_folder()))
    for notice in found.notices:
        print(notice)
    print(f"{found.folder}: {len(found)} images, {sum(map(len, found.labels))} signs")
    print(f"train on them with --data {found.folder}")


@dataclass(frozen=True)
class RunOptions:
    """Where a run gets its data, and where it leaves what it makes."""

    data: str | None = None
    """Folder or archive of the real data; the profile's data if not given."""
    name: str = ""
    """Of the record; the model's name if not given."""
    runs: Path | None = None
    """Folder for record, weights and checkpoint; HW3_RUNS if not given."""
    record: Path | None = None
    """A second place to write the finished record to."""
    note: str = ""
    """A remark on the data, kept in the record."""
    workers: int | None = None
    """Processes that load data; by default none on a CPU, and a few beside a GPU."""


def train_unet(settings: SegmentationSettings, options: RunOptions) -> None:
    """Train and score the U-Net on brain MRI. Called again, it goes on where it stopped."""
    from hw3.segmentation import experiment

    def prepare() -> tuple[Any, str]:
        return experiment.prepare(profiles.active(), options.data, settings.image_size)

    results = _train(experiment, settings, prepare, "unet", options)
    for part, own in results.items():
        _print(f"{part}: dice {own['dice']:.4f}  iou {own['iou']:.4f}")


def train_faster_rcnn(settings: FasterRcnnSettings, options: RunOptions) -> None:
    """Train and score Faster R-CNN on road scenes. Called again, it goes on where it stopped."""
    _train_detector(settings, "faster-rcnn", options)


def train_ssd300(settings: SsdSettings, options: RunOptions) -> None:
    """Train and score SSD300 on road scenes. Called again, it goes on where it stopped."""
    _train_detector(settings, "ssd300", options)


def _train_detector(settings: DetectionSettings, name: str, options: RunOptions) -> None:
    from hw3.detection import experiment

    def prepare() -> tuple[Any, str]:
        return experiment.prepare(profiles.active(), options.data)

    results = _train(experiment, settings, prepare, name, options)
    _print(f"test: AP at IoU 0.5 {results['ap50']}  AP {results['ap']}")


def _train(
    experiment: ModuleType,
    settings: Any,
    prepare: Callable[[], tuple[Any, str]],
    name: str,
    options: RunOptions,
) -> dict[str, Any]:
    """Run an experiment, say where its files are, and return its results."""
    settings.check()  # before anything is downloaded
    if options.workers is not None and options.workers < 0:
        raise InputError(f"workers is {options.workers}: choose 0 or more")
    with processes().local_main_process_first():  # which fetches the data; the others find them
        dataset, kind = prepare()
    folder = options.runs or profiles.runs_folder()
    done, _ = experiment.run(
        settings,
        dataset,
        kind=kind,
        name=options.name or name,
        folder=folder,
        note=options.note,
        workers=options.workers,
    )
    if processes().is_main_process:  # it alone knows the digest of the weights
        for path in filter(None, (folder / f"{done.stem}.json", options.record)):
            print(f"record: {done.save(path)}")
        print(f"weights: {folder / f'{done.stem}.safetensors'}")
    return done.results


def _print(line: str) -> None:
    if processes().is_main_process:
        print(line)


def evaluate(
    record: RecordPath,
    data: str | None = None,
    weights: Path | None = None,
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
    experiment = _experiment_of(found)
    if weights is not None:
        found.evidence = experiment.predict_evidence(found, data, weights)
    try:
        results = experiment.derive_results(found)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{record}: its evidence is incomplete or faulty ({error!r})") from None
    differences = compare(found.results, results, tolerance)
    for path, before, after in differences:
        print(f"{path}: recorded {before}, now {after}")
    if differences:
        raise InputError(f"{record}: {len(differences)} entries differ by more than {tolerance}")
    print(f"{record}: every entry of the results agrees within {tolerance}")


def predict(images: Images, record: Path, weights: Path | None = None, to: Path = Path()) -> None:
    """Use a trained model on images of your own.

    A U-Net writes <name>_predicted.png and <name>_overlay.png; a detector <name>_signs.json with
    all detections, and <name>_boxes.png with those that have a score of at least 0.5.

    Args:
        images: slices as TIFF or PNG (uint8, three channels or one), or colour photographs. SSD300
            in tiles loses signs wider than the 132 pixels by which tiles overlap.
        record: of the run whose weights are used.
        weights: their file; the one beside the record if not given.
        to: folder to write to.
    """
    if not images:
        raise InputError("no images given: name at least one file")
    found = records.load(record)
    weights = weights or record.with_suffix(".safetensors")
    for path in _experiment_of(found).predict_files(images, found, weights, to):
        print(path)


def _experiment_of(record: RunRecord) -> ModuleType:
    from hw3.detection import experiment as detection
    from hw3.segmentation import experiment as segmentation

    model = record.settings.get("model")
    if model != "unet" and model not in detection.MODELS:
        known = ", ".join(["unet", *detection.MODELS])
        raise InputError(f"record {record.name}: its model is {model}; known are {known}")
    return segmentation if model == "unet" else detection


def compare(
    before: Any, after: Any, tolerance: float = TOLERANCE, path: str = ""
) -> list[tuple[str, Any, Any]]:
    """Every leaf of two nested results that differs by more than the tolerance."""
    if isinstance(before, list) and isinstance(after, list):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if isinstance(before, dict) and isinstance(after, dict):
        differences = []
        for key in dict.fromkeys([*before, *after]):
            place = f"{path}.{key}".strip(".")
            differences += compare(before.get(key), after.get(key), tolerance, place)
        return differences
    numbers = all(isinstance(value, int | float) for value in (before, after))
    same = abs(before - after) <= tolerance if numbers else before == after
    return [] if same else [(path, before, after)]


def commands() -> dict[str, dict[str, Callable] | Callable]:
    """All commands; those that train take their defaults from the active profile."""
    profile = profiles.active()
    return {
        "data": {"lgg": data_lgg, "gtsdb": data_gtsdb},
        "train": {
            name: partial(command, settings=settings, options=RunOptions())
            for name, command, settings in (
                ("unet", train_unet, profile.segmentation),
                ("faster-rcnn", train_faster_rcnn, profile.faster_rcnn),
                ("ssd300", train_ssd300, profile.ssd300),
            )
        },
        "evaluate": evaluate,
        "predict": predict,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run one command: 0 if it succeeded, 2 for unusable input, 130 if it was interrupted."""
    chosen = sys.argv[1:] if arguments is None else arguments
    program = "python -m hw3"
    try:
        table = commands()
        if chosen and isinstance(nested := table.get(chosen[0]), dict):
            program, chosen, table = f"{program} {chosen[0]}", chosen[1:], nested
        tyro.extras.subcommand_cli_from_dict(
            {name: _group(name, entry) for name, entry in table.items()},
            prog=program,
            args=chosen,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except (InputError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        print(str(interruption) or "stopped", file=sys.stderr)
        return 130
    return 0


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
