"""Numbers in prose and tables: written by code from records and results, never typed."""

from collections.abc import Iterable, Sequence
from numbers import Integral
from statistics import fmean
from typing import Any

from hw3 import records
from hw3.detection import ap
from hw3.records import RunRecord
from hw3.settings import active


class Markdown(str):
    """Text that a notebook renders as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markdown:
    """A Markdown table: words to the left, numbers to the right.

    Args:
        header: names of the columns.
        rows: cells; floats are shown with four decimals, integers with thousands separated, None
            as a dash.

    Example:
        >>> print(table(["group", "signs", "AP"], [["danger", 1219, 0.5], ["other", None, 0.25]]))
        | group | signs | AP |
        | :-- | --: | --: |
        | danger | 1,219 | 0.5000 |
        | other | – | 0.2500 |
    """
    lines = [[_shown(cell) for cell in row] for row in (header, *rows)]
    columns = zip(*lines[1:], strict=True) if rows else [()] * len(header)
    lines.insert(1, ["--:" if all(map(_is_number, column)) else ":--" for column in columns])
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def score(results: dict[str, Any], name: str) -> str:
    """One score with its 95 % interval, if it has one: `0.861 [0.840, 0.879]`."""
    value, interval = results.get(name), results.get(f"{name}_interval")
    if value is None:
        return "–"
    return with_interval(value, interval) if interval else f"{value:.3f}"


def seeds(runs: Sequence[RunRecord], key: str, name: str = "") -> str:
    """`score` of a detector over several seeds, see `over_seeds`; `name` of a class or size."""
    found = over_seeds(runs, key).get(name)
    return with_interval(*found) if found else "–"


def over_seeds(runs: Sequence[RunRecord], key: str) -> dict[str, tuple[float, list[float]]]:
    """Scores of a detector: means over its runs, with 95 % intervals over runs and images.

    By threshold, class or size, or by "" for a single score, as the `key` of results has it (see
    `ap.STATISTICS`); without those that a run does not have.
    """
    values = [_by_name(run.results.get(key)) for run in runs]
    names = [name for name in values[0] if None not in [own.get(name) for own in values]]
    if len(runs) == 1:
        intervals = _by_name(runs[0].results.get(f"{key}_interval"))
    else:
        matches = [ap.match(run.evidence["truths"], run.evidence["detections"]) for run in runs]
        intervals = {name: ap.pooled(matches, ap.STATISTICS[key][name])[1] for name in names}
    return {name: (fmean(own[name] for own in values), intervals[name]) for name in names}


def with_interval(value: float, interval: Sequence[float], form: str = ".3f") -> str:
    """`0.861 [0.840, 0.879]`; in a narrow column the line breaks before the bracket only."""
    low, high = interval
    return f"{value:{form}} [{low:{form}},\N{NO-BREAK SPACE}{high:{form}}]"


def differences(columns: dict[str, dict[str, Any]]) -> Markdown:
    """A table of the settings in which runs, by title, differ; what one does not have is a dash."""
    texts = [{name: _listed(value) for name, value in own.items()} for own in columns.values()]
    names = dict.fromkeys(name for own in texts for name in own)
    rows = [[name, *(own.get(name) for own in texts)] for name in names]
    return table(["setting", *columns], [row for row in rows if len(set(row[1:])) > 1])


def environment() -> Markdown:
    """What this page ran on: the active profile, data, versions, hardware."""
    profile, found = active(), records.provenance()
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    data = "simulated" if profile.simulated else "real"
    device = _device(found["hardware"])
    return Markdown(f"Profile **{profile.name}** ({data} data) on {device}; {versions}.")


def provenance(record: RunRecord) -> Markdown:
    """One sentence that says where a record's numbers come from."""
    data, epochs = record.data, len(record.history)
    unit = "slices" if "slices" in data else "images"
    note, split = data.get("note"), record.settings.get("split")
    parts = [
        f"**{data['kind'].capitalize()} data**" + f", {note}" * bool(note),
        f"{data[unit]:,} {unit}" + f", split `{split}`" * bool(split) + f", seed {record.seed}",
        f"{epochs} epoch{'s' * (epochs != 1)}",
        f"{hours([record])} h of training steps on {_device(record.hardware)}",
        f"torch {record.versions['torch']}",
        f"commit `{record.commit[:10]}`{record.commit[40:]}.",
    ]
    return Markdown("; ".join(parts))


def folded(title: str, text: str) -> Markdown:
    """Markdown text behind a line that opens it; printed, it is open."""
    return Markdown(f"<details><summary>{title}</summary>\n\n{text}\n\n</details>")


def sources(runs: dict[str, RunRecord | Sequence[RunRecord]]) -> Markdown:
    """`provenance` of runs by title, one or several seeds each, a line a run, folded."""
    pairs = [
        (title, run)
        for title, own in runs.items()
        for run in ([own] if isinstance(own, RunRecord) else own)
    ]
    kinds = " and ".join(dict.fromkeys(run.data["kind"] for _, run in pairs))
    count = f"{len(pairs)} run{'s' * (len(pairs) != 1)}"
    lines = [f"- {title}: {provenance(run)}" for title, run in pairs]
    return folded(f"Where these numbers come from ({kinds} data, {count})", "\n".join(lines))


def hours(runs: Iterable[RunRecord]) -> str:
    """Hours, minutes and seconds of training steps that runs took together."""
    seconds = round(sum(run.seconds_training for run in runs))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def command(record: RunRecord) -> Markdown:
    """What was typed to make a run, an option a line."""
    lines = record.command.replace(" --", " \\\n    --")
    return Markdown(f"```bash\n{lines}\n```")


def _by_name(scores: Any) -> dict[str, Any]:
    return scores if isinstance(scores, dict) else {"": scores}


def _device(hardware: dict[str, Any]) -> str:
    count, device = hardware["count"], hardware["device"]
    if not device.startswith("CPU"):
        return f"{count} × {device}"
    return f"{count} thread{'s' * (count != 1)} of a {device}"


def _is_number(cell: str) -> bool:
    """Whether a cell as shown is a number, with whatever follows it, or a dash for none."""
    return cell == "–" or cell.lstrip("+-± ")[:1].isdigit()


def _listed(value: Any) -> str:
    """A tuple and the list that JSON makes of it are the same setting; a file needs no ending."""
    listed = ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return listed.removesuffix(".safetensors")  # else five columns are wider than the page


def _shown(cell: Any) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.4f}"
    return f"{cell:,}" if isinstance(cell, Integral) else str(cell).replace("|", r"\|")
