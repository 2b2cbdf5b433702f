from dataclasses import replace

import numpy as np
import pytest

from hw3 import records, tables
from hw3.detection import ap
from hw3.records import RunRecord

CPU = {"device": "CPU, Example 9000 (AVX2)", "count": 4}


@pytest.fixture
def record() -> RunRecord:
    return RunRecord(
        name="run",
        settings={"split": "slice"},
        data={"kind": "simulated", "slices": 1234, "patients": 24},
        seed=7,
        commit="0123456789abcdef0123456789abcdef01234567",
        versions={"python": "3.12.1", "torch": "2.9.0"},
        hardware=CPU,
        seconds_training=3725.4,
        history=[{"epoch": epoch} for epoch in range(1, 21)],
    )


def test_a_table_is_exactly_this_text() -> None:
    row = ["a|b", "", "1234", np.float64(0.25), "+0.1", None, "82 %", float("nan"), -1234567]
    found = tables.table([*"abcdefgh", "i|j"], [row, row])
    shown = "| a\\|b |  | 1234 | 0.2500 | +0.1 | – | 82 % | nan | -1,234,567 |"
    assert found.split("\n") == [
        "| a | b | c | d | e | f | g | h | i\\|j |",
        "| :-- | :-- | --: | --: | --: | --: | --: | :-- | --: |",
        *[shown] * 2,
    ]
    assert isinstance(found, tables.Markdown) and found._repr_markdown_() == found
    assert tables.table(["a", "b"], []) == "| a | b |\n| --: | --: |"
    assert tables.table(["a"], [[1], ["one"]]).split("\n")[1] == "| :-- |"


def test_a_score_is_shown_with_its_interval_if_it_has_one() -> None:
    results = {"dice": 0.86149, "dice_interval": [0.84, 0.8789], "iou": 0.75, "ap": 0.0}
    results |= {"ap_interval": None, "ap50": None, "ap50_interval": None}
    shown = {key: tables.score(results, key) for key in ("dice", "iou", "ap", "ap50", "no")}
    assert shown.pop("dice") == "0.861 [0.840,\N{NO-BREAK SPACE}0.879]"
    assert [*shown.values()] == ["0.750", "0.000", "–", "–"]
    gain = tables.with_interval(0.0213, [-0.01, 0.05], "+.2f")
    assert gain == "+0.02 [-0.01,\N{NO-BREAK SPACE}+0.05]"


def detector(hits: int) -> RunRecord:
    """A run on ten images with a danger sign each, of which it finds the first few."""
    sign = {"boxes_xyxy": [[0, 0, 20, 20]], "labels": [3]}
    truths = [{"image_id": image_id} | sign for image_id in range(10)]
    box = {"category_id": 3, "bbox": [0, 0, 20, 20], "score": 0.9}
    found = [{"image_id": image_id} | box for image_id in range(hits)]
    results = ap.scores(ap.match(truths, found), resamples=50)
    evidence = {"truths": truths, "detections": found}
    return RunRecord("run", {}, {}, seed=0, results=results, evidence=evidence)


@pytest.mark.parametrize("key", ap.STATISTICS)
def test_scores_over_seeds_are_means_with_a_pooled_interval(key) -> None:
    runs = [detector(4), detector(8)]
    names = {"ap50": "", "ap": "", "ap_by_threshold": "0.75", "ap50_by_size": "small"}
    name = names.get(key, "danger")
    values = [tables.over_seeds([run], key)[name][0] for run in runs]
    value, (low, high) = tables.over_seeds(runs, key)[name]
    matches = [ap.match(run.evidence["truths"], run.evidence["detections"]) for run in runs]
    again, interval = ap.pooled(matches, ap.STATISTICS[key][name])
    assert value == pytest.approx(sum(values) / 2) == pytest.approx(again)
    assert interval == [low, high] and low < values[0] < values[1] < high
    shown = f"{value:.3f} [{low:.3f},\N{NO-BREAK SPACE}{high:.3f}]"
    assert tables.seeds(runs, key, name) == shown


def test_one_run_has_its_records_interval_and_what_is_undefined_is_left_out() -> None:
    run = detector(4)
    value, interval = (run.results[f"ap50_by_class{end}"]["danger"] for end in ("", "_interval"))
    assert tables.over_seeds([run], "ap50_by_class") == {"danger": (value, interval)}
    assert tables.seeds([run], "ap50_by_class", "other") == "–"
    older = replace(run, results={"ap50": 0.5, "ap50_interval": [0.4, 0.6]})
    assert tables.seeds([older], "competition", "danger") == "–"
    assert tables.over_seeds([run, older], "ap50_by_class") == {}


def test_only_settings_that_differ_are_shown() -> None:
    report = {"epochs": 10, "sizes": (16, 24), "crop": None, "weights": "coco"}
    ours = {"epochs": 4, "sizes": [16, 24], "crop": 192, "weights": "a.safetensors", "share": 0.3}
    assert tables.differences({"report": report, "ours": ours}) == (
        "| setting | report | ours |\n"
        "| :-- | :-- | :-- |\n"  # "None" is a word
        "| epochs | 10 | 4 |\n"
        "| crop | None | 192 |\n"
        "| weights | coco | a |\n"
        "| share | – | 0.3 |"
    )
    assert tables.differences({"one": {"a": 1}, "two": {"a": 1}}).count("\n") == 1


def test_provenance_says_where_the_numbers_come_from(record) -> None:
    assert tables.provenance(record) == (
        "**Simulated data**; 1,234 slices, split `slice`, seed 7; 20 epochs; 1:02:05 h of "
        "training steps on 4 threads of a CPU, Example 9000 (AVX2); torch 2.9.0; commit "
        "`0123456789`."
    )
    older = replace(
        record,
        settings={},
        data={"kind": "real", "note": "a copy", "images": 900, "signs": 1213},
        hardware={"device": "Example GPU", "count": 2},
        commit=f"{record.commit} with changes",
        history=record.history[:1],
        seconds_training=8.6,
    )
    assert tables.provenance(older) == (
        "**Real data**, a copy; 900 images, seed 7; 1 epoch; 0:00:09 h of training steps on "
        "2 × Example GPU; torch 2.9.0; commit `0123456789` with changes."
    )
    alone = tables.provenance(replace(record, hardware=CPU | {"count": 1}))
    assert "on 1 thread of a CPU, Example" in alone


def test_sources_say_what_is_folded_away(record) -> None:
    real = replace(record, data={"kind": "real", "images": 900})
    found = tables.sources({"one": record, "seeds": [real, real]}).splitlines()
    title = "Where these numbers come from (simulated and real data, 3 runs)"
    assert found[0] == f"<details><summary>{title}</summary>"
    assert found[1] == found[-2] == ""  # else what is within would not be read as Markdown
    line = f"- seeds: {tables.provenance(real)}"
    assert found[2:5] == [f"- one: {tables.provenance(record)}", line, line]
    assert "real data, 1 run)" in tables.sources({"alone": real})


def test_the_environment_names_profile_data_versions_and_hardware(monkeypatch) -> None:
    assert all(f"{package} " in tables.environment() for package in records.PACKAGES)
    found = {"versions": {"python": "3.12.1", "torch": "2.9.0"}, "hardware": CPU}
    monkeypatch.setattr(records, "provenance", lambda: found)
    ends = "on 4 threads of a CPU, Example 9000 (AVX2); python 3.12.1, torch 2.9.0."
    for profile, data in (("full", "real"), ("smoke", "simulated")):
        monkeypatch.setenv("HW3_PROFILE", profile)
        assert tables.environment() == f"Profile **{profile}** ({data} data) {ends}"


def test_hours_are_those_of_all_runs_and_a_command_has_an_option_a_line(record) -> None:
    runs = [replace(record, seconds_training=seconds) for seconds in (3599.6, 93_600.9)]
    assert (tables.hours(runs), tables.hours([])) == ("27:00:00", "0:00:00")
    typed = "HW3_PROFILE=full python -m hw3 train unet --epochs 4 --no-augment"
    lines = tables.command(replace(record, command=typed)).splitlines()[1:-1]
    assert lines == [f"{typed[:41]} \\", "    --epochs 4 \\", "    --no-augment"]
