from dataclasses import replace

import numpy as np
import pytest

from hw3 import records, tables
from hw3.profiles import FULL, SMOKE
from hw3.records import RunRecord

CPU = {"device": "CPU, Example 9000 (AVX2)", "count": 4}


@pytest.fixture
def record() -> RunRecord:
    return RunRecord(
        name="run",
        settings={"split": "patient"},
        data={"kind": "simulated", "slices": 1234, "patients": 24},
        seed=7,
        commit="0123456789abcdef0123456789abcdef01234567",
        versions={"python": "3.12.1", "torch": "2.9.0"},
        hardware=CPU,
        seconds_training=3725.4,
        history=[{"epoch": epoch} for epoch in range(1, 21)],
    )


def test_only_settings_that_differ_are_shown() -> None:
    found = tables.differences(
        {
            "report": {"epochs": 10, "sizes": (16, 24), "crop": None, "seed": 0},
            "ours": {"epochs": 4, "sizes": [16, 24], "crop": 192, "seed": 0},
        }
    )
    assert found == (
        "| setting | report | ours |\n"
        "| :-- | :-- | --: |\n"  # "None" is a word
        "| epochs | 10 | 4 |\n"
        "| crop | None | 192 |"
    )
    assert tables.differences({"one": {"a": 1}, "two": {"a": 1}}).count("\n") == 1


def test_a_table_is_exactly_this_text() -> None:
    found = tables.table(
        ["what", "value", "n"],
        [["Dice", 0.86149, 1234567], ["report", None, 0], ["score", "0.861 [0.840, 0.879]", -1000]],
    )
    assert found == (
        "| what | value | n |\n"
        "| :-- | --: | --: |\n"
        "| Dice | 0.8615 | 1,234,567 |\n"
        "| report | – | 0 |\n"
        "| score | 0.861 [0.840, 0.879] | -1,000 |"
    )
    assert found._repr_markdown_() == found
    assert isinstance(found, tables.Markdown)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (1.0, "1.0000"),
        (-0.00004, "-0.0000"),
        (12345.678, "12345.6780"),
        (float("nan"), "nan"),
        (np.float64(0.25), "0.2500"),
        (999, "999"),
        ("", ""),
        ("1234", "1234"),
        ("a | b", r"a \| b"),
        ("|x|", r"\|x\|"),
    ],
    ids=repr,
)
def test_cells_are_shown(cell, shown) -> None:
    assert tables.table(["a"], [[cell]]).splitlines()[-1] == f"| {shown} |"


def test_a_bar_in_a_cell_makes_no_column() -> None:
    lines = tables.table(["a | b", "c"], [["x|y", 1]]).splitlines()
    assert lines == [r"| a \| b | c |", "| :-- | --: |", r"| x\|y | 1 |"]


def test_a_table_without_rows_has_its_header() -> None:
    assert tables.table(["a", "b"], []) == "| a | b |\n| --: | --: |"


def test_a_score_is_shown_with_its_interval_if_it_has_one() -> None:
    results = {"dice": 0.86149, "dice_interval": [0.84, 0.8789], "iou": 0.75, "ap": 0.5}
    results |= {"ap_interval": None, "ap50": None, "ap50_interval": None, "zero": 0.0}
    assert tables.score(results, "dice") == "0.861 [0.840,\N{NO-BREAK SPACE}0.879]"
    assert tables.score(results, "iou") == "0.750"
    assert tables.score(results, "ap") == "0.500"
    assert tables.score(results, "ap50") == "–"
    assert tables.score(results, "missing") == "–"
    assert tables.score(results, "zero") == "0.000"


def test_provenance_says_where_the_numbers_come_from(record) -> None:
    assert tables.provenance(record) == (
        "**Simulated data**; 1,234 slices, split `patient`, seed 7; 20 epochs, 1:02:05 h of "
        "training steps on 4 threads of a CPU, Example 9000 (AVX2); torch 2.9.0; commit "
        "`0123456789`."
    )
    real = replace(
        record,
        settings={"split": "random"},
        data={"kind": "real", "note": "mirror", "images": 900, "signs": 1213},
        hardware={"device": "Example GPU", "count": 2},
        commit="unknown",
        seconds_training=8.6,
    )
    assert tables.provenance(real) == (
        "**Real data**, mirror; 900 images, split `random`, seed 7; 20 epochs, 0:00:09 h of "
        "training steps on 2 × Example GPU; torch 2.9.0; commit `unknown`."
    )
    assert "; 1 epoch, 0:" in tables.provenance(replace(real, history=real.history[:1]))


def test_provenance_hides_neither_changes_nor_a_single_thread(record) -> None:
    found = tables.provenance(
        replace(record, commit=f"{record.commit} with changes", hardware=CPU | {"count": 1})
    )
    assert found.endswith("commit `0123456789` with changes.")
    assert "steps on 1 thread of a CPU, Example 9000 (AVX2);" in found


def test_sources_say_what_is_folded_away(record) -> None:
    real = replace(record, data={"kind": "real", "images": 900})
    found = tables.sources({"one": record, "two": real}).splitlines()
    title = "Where these numbers come from (simulated and real data, 2 runs)"
    assert found[0] == f"<details><summary>{title}</summary>"
    assert found[1] == found[-2] == ""  # else what is within would not be read as Markdown
    assert found[2:4] == [
        f"- one: {tables.provenance(record)}",
        f"- two: {tables.provenance(real)}",
    ]
    assert "real data, 1 run)" in tables.sources({"alone": real})


def test_provenance_of_this_very_process(record) -> None:
    here = replace(record, **records.provenance())
    found = tables.provenance(here)
    assert here.versions["torch"] in found
    assert here.hardware["device"] in found
    assert f"commit `{here.commit[:10]}`" in found


def test_the_environment_names_profile_data_versions_and_hardware(monkeypatch) -> None:
    versions = {"python": "3.12.1", "torch": "2.9.0"}
    found = {"command": "", "commit": "", "versions": versions, "hardware": CPU}
    monkeypatch.setattr(records, "provenance", lambda: found)
    assert tables.environment(SMOKE) == (
        "Profile **smoke** (simulated data) on 4 threads of a CPU, Example 9000 (AVX2); "
        "python 3.12.1, torch 2.9.0."
    )
    assert tables.environment(FULL).startswith("Profile **full** (real data) on ")
    monkeypatch.undo()
    for package in records.PACKAGES:
        assert f"{package} " in tables.environment(SMOKE)


def test_columns_of_numbers_are_set_to_the_right() -> None:
    row = ["name", "a word", 3, -0.5, "0.9 [0.8, 1.0]", "+0.1", None, "82 %"]
    lines = tables.table([*"abcdefgh"], [row, [*row[:2], *row[2:]]]).split("\n")
    assert lines[1] == "| :-- | :-- | --: | --: | --: | --: | --: | --: |"
    assert tables.table(["a"], [[1], ["one"]]).split("\n")[1] == "| :-- |"


def test_hours_are_those_of_all_runs(record) -> None:
    runs = [replace(record, seconds_training=seconds) for seconds in (3599.6, 3600.9)]
    assert tables.hours(runs) == "2:00:00"
    assert tables.hours([]) == "0:00:00"


def test_a_command_has_an_option_a_line(record) -> None:
    typed = replace(
        record, command="HW3_PROFILE=full python -m hw3 train unet --epochs 4 --no-augment"
    )
    assert tables.command(typed).splitlines()[1:-1] == [
        "HW3_PROFILE=full python -m hw3 train unet \\",
        "    --epochs 4 \\",
        "    --no-augment",
    ]


def test_weights_are_named_without_the_ending_of_their_file() -> None:
    runs = {"one": {"weights": "vgg16_features.safetensors"}, "two": {"weights": "coco"}}
    assert "| weights | vgg16_features | coco |" in str(tables.differences(runs))
