"""The command line: `python -m hw3 data|train|evaluate|predict`, each with --help."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from hw3 import profiles, records
from hw3.errors import InputError
from hw3.profiles import SegmentationSettings
from hw3.training import Interrupted

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


def train_unet(
    settings: Annotated[SegmentationSettings, tyro.conf.arg(name="")],
    data: str | None = None,
    name: str = "unet",
    runs: Path | None = None,
    record: Path | None = None,
    note: str = "",
    workers: int = 0,
) -> None:
    """Train and score the U-Net on brain MRI. Called again, it goes on where it stopped.

    Args:
        settings: defaults are those of the profile that HW3_PROFILE names.
        data: folder or zip of the real data, or `kaggle`; the profile's data if not given.
        name: of the record.
        runs: folder for record, weights and checkpoint; HW3_RUNS if not given.
        record: a second place to write the finished record to.
        note: a remark on the data, kept in the record.
        workers: processes that load data.
    """
    from hw3.segmentation import experiment

    dataset, kind = experiment.prepare(profiles.active(), data, settings.image_size)
    runs = runs or profiles.runs_folder()
    done, _ = experiment.run(
        settings, dataset, kind=kind, name=name, runs=runs, note=note, workers=workers
    )
    for path in filter(None, (runs / f"{done.stem}.json", record)):
        print(f"record: {done.save(path)}")
    print(f"weights: {runs / f'{done.stem}.safetensors'}")
    for part, results in done.results.items():
        print(f"{part}: dice {results['dice']:.4f}  iou {results['iou']:.4f}")


def evaluate(record: RecordPath, data: str | None = None, weights: Path | None = None) -> None:
    """Derive a record's results again from its evidence, and compare.

    Args:
        record: a JSON file that train wrote.
        data: also predict anew on this data (a folder or a zip), with --weights.
        weights: the trained weights file.
    """
    from hw3.segmentation import experiment

    if (data is None) != (weights is None):
        raise InputError("--data and --weights go together: predicting anew needs both")
    found = records.load(record)
    if weights is not None:
        found.evidence = experiment.predict_evidence(found, data, weights)
    fresh = experiment.derive_results(found)
    differences = compare(found.results, fresh)
    for path, before, after in differences:
        print(f"{path}: recorded {before}, now {after}")
    if differences:
        raise InputError(f"{record}: {len(differences)} entries differ by more than {TOLERANCE}")
    print(f"{record}: every entry of the results agrees within {TOLERANCE}")


def predict(images: Images, record: Path, weights: Path | None = None, to: Path = Path()) -> None:
    """Segment slices of your own: writes <name>_mask.png and <name>_overlay.png.

    Args:
        images: TIFF or PNG files, uint8, three channels or one.
        record: of the run whose weights are used.
        weights: their file; the one beside the record if not given.
        to: folder to write to.
    """
    from hw3.segmentation import experiment

    weights = weights or record.with_suffix(".safetensors")
    for path in experiment.predict_files(images, records.load(record), weights, to):
        print(path)


def compare(before: Any, after: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Every leaf of two nested results that differs by more than the tolerance."""
    if isinstance(before, list) and isinstance(after, list):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if isinstance(before, dict) and isinstance(after, dict):
        differences = []
        for key in dict.fromkeys([*before, *after]):
            differences += compare(before.get(key), after.get(key), f"{path}.{key}".strip("."))
        return differences
    numbers = all(isinstance(value, int | float) for value in (before, after))
    same = abs(before - after) <= TOLERANCE if numbers else before == after
    return [] if same else [(path, before, after)]


def commands() -> dict[str, dict[str, Callable] | Callable]:
    """All commands; those that train take their defaults from the active profile."""
    profile = profiles.active()
    return {
        "data": {"lgg": data_lgg},
        "train": {"unet": partial(train_unet, settings=profile.segmentation)},
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
    except (InputError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
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
