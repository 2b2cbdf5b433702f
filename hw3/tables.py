"""Numbers in prose and tables: written by code from records and results, never typed."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from hw3 import records
from hw3.profiles import Profile
from hw3.records import RunRecord


class Markdown(str):
    """Text that a notebook renders as Markdown.

    Example:
        >>> print(Markdown("**bold** in a notebook, plain text elsewhere"))
        **bold** in a notebook, plain text elsewhere
    """

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
    """One score with its 95 % interval, if it has one: `0.861 [0.840, 0.879]`.

    Example:
        >>> print(score({"ap50": 0.8612, "ap50_interval": [0.84, 0.879]}, "ap50"))
        0.861 [0.840,\N{NO-BREAK SPACE}0.879]
        >>> score({"ap50": None, "ap50_interval": None}, "ap50")
        '–'
    """
    value, interval = results.get(name), results.get(f"{name}_interval")
    if value is None:
        return "–"
    return with_interval(value, interval) if interval else f"{value:.3f}"


def with_interval(value: float, interval: Sequence[float], form: str = ".3f") -> str:
    """`0.861 [0.840, 0.879]`; in a narrow column the line breaks before the bracket only.

    Example:
        >>> print(with_interval(0.8612, [0.84, 0.879], form=".2f"))
        0.86 [0.84,\N{NO-BREAK SPACE}0.88]
    """
    low, high = interval
    return f"{value:{form}} [{low:{form}},\N{NO-BREAK SPACE}{high:{form}}]"


def by_amount(starts: dict[str, dict[int, tuple[float, Sequence[float]]]], unit: str) -> Markdown:
    """A table of what `hw3.figures.learning_curves` draws: a row an amount, a column a start.

    Args:
        starts: by title, scores with their intervals by amount of training data.
        unit: what is counted, for the header.

    Example:
        >>> simulated = {0: (0.5, (0.4, 0.6)), 30: (0.8, (0.7, 0.9))}
        >>> print(by_amount({"simulated": simulated, "random": {30: (0.2, (0.1, 0.3))}}, "images"))
        | images | simulated | random |
        | --: | --: | --: |
        | 0 | 0.500 [0.400,\N{NO-BREAK SPACE}0.600] | – |
        | 30 | 0.800 [0.700,\N{NO-BREAK SPACE}0.900] | 0.200 [0.100,\N{NO-BREAK SPACE}0.300] |
    """
    rows = [
        [
            amount,
            *(with_interval(*own[amount]) if amount in own else None for own in starts.values()),
        ]
        for amount in sorted(set().union(*starts.values()))
    ]
    return table([unit, *starts], rows)


def differences(columns: dict[str, dict[str, Any]]) -> Markdown:
    """A table of the settings in which runs differ.

    Args:
        columns: each run's settings under its title; all have the same names.

    Example:
        >>> runs = {"report": {"epochs": 20, "seed": 0}, "ours": {"epochs": 8, "seed": 0}}
        >>> print(differences(runs))
        | setting | report | ours |
        | :-- | --: | --: |
        | epochs | 20 | 8 |
    """
    texts = [{name: _listed(value) for name, value in own.items()} for own in columns.values()]
    rows = [[name, *(own[name] for own in texts)] for name in texts[0]]
    return table(["setting", *columns], [row for row in rows if len(set(row[1:])) > 1])


def environment(profile: Profile) -> Markdown:
    """What this page ran on: profile, data, versions, hardware.

    Example:
        >>> from hw3.profiles import SMOKE
        >>> print(environment(SMOKE))
        Profile **smoke** (simulated data) on ...; python ..., torch ..., torchvision ...
    """
    found = records.provenance()
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    data = "simulated" if profile.simulated else "real"
    return Markdown(
        f"Profile **{profile.name}** ({data} data) on {_device(found['hardware'])}; {versions}."
    )


def provenance(record: RunRecord) -> Markdown:
    """One sentence that says where a record's numbers come from.

    Example:
        >>> record = RunRecord("unet", settings={"split": "slice"}, data={}, seed=0)
        >>> record.data, record.commit = {"kind": "real", "slices": 3929}, "c0ffee"
        >>> record.history, record.seconds_training = [{}] * 20, 90.0
        >>> record.hardware, record.versions = {"device": "A100", "count": 1}, {"torch": "2.5.0"}
        >>> print(provenance(record))
        **Real data**; 3,929 slices, split `slice`, seed 0; 20 epochs, 0:01:30 h of training
        steps on 1 × A100; torch 2.5.0; commit `c0ffee`.
    """
    data, versions, device = record.data, record.versions, _device(record.hardware)
    note = f", {data['note']}" if data.get("note") else ""
    unit = "slices" if "slices" in data else "images"
    what = f"{data[unit]:,} {unit}, split `{record.settings['split']}`, seed {record.seed}"
    epochs = len(record.history)
    how = f"{epochs} epoch{'s' * (epochs != 1)}, {hours([record])} h of training steps"
    made = f"torch {versions['torch']}; commit `{record.commit[:10]}`{record.commit[40:]}"
    return Markdown(
        f"**{data['kind'].capitalize()} data**{note}; {what}; {how} on {device}; {made}."
    )


def folded(title: str, text: str) -> Markdown:
    """Markdown text behind a line that opens it; printed, it is open.

    Example:
        >>> print(folded("More", "**Details**"))
        <details><summary>More</summary>
        <BLANKLINE>
        **Details**
        <BLANKLINE>
        </details>
    """
    return Markdown(f"<details><summary>{title}</summary>\n\n{text}\n\n</details>")


def sources(runs: dict[str, RunRecord]) -> Markdown:
    """`provenance` of several runs by title, a line each, folded.

    Example:
        >>> record = RunRecord("unet", settings={"split": "slice"}, data={}, seed=0)
        >>> record.data, record.commit = {"kind": "real", "slices": 3929}, "c0ffee"
        >>> record.hardware, record.versions = {"device": "A100", "count": 1}, {"torch": "2.5.0"}
        >>> print(sources({"by slice": record}))
        <details><summary>Where these numbers come from (real data, 1 run)</summary>
        <BLANKLINE>
        - by slice: **Real data**; 3,929 slices, split `slice`, seed 0; ...
    """
    kinds = " and ".join(dict.fromkeys(run.data["kind"] for run in runs.values()))
    title = f"Where these numbers come from ({kinds} data, {len(runs)} run{'s' * (len(runs) != 1)})"
    return folded(title, "\n".join(f"- {own}: {provenance(run)}" for own, run in runs.items()))


def hours(runs: Iterable[RunRecord]) -> str:
    """Hours, minutes and seconds of training steps that runs took together.

    Example:
        >>> record = RunRecord("unet", settings={}, data={}, seed=0, seconds_training=90.0)
        >>> hours([record, record])
        '0:03:00'
    """
    return str(timedelta(seconds=round(sum(run.seconds_training for run in runs))))


def command(record: RunRecord) -> Markdown:
    """What was typed to make a run, an option a line.

    Example:
        >>> record = RunRecord("unet", settings={}, data={}, seed=0)
        >>> record.command = "python -m hw3 train unet --epochs 4"
        >>> print(command(record))
        ```bash
        python -m hw3 train unet \\
            --epochs 4
        ```
    """
    lines = record.command.replace(" --", " \\\n    --")
    return Markdown(f"```bash\n{lines}\n```")


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
    return f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", r"\|")
