"""Units that never answer, and the file that the book shows."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import silent_units
from hw3 import profiles, records
from hw3.detection import experiment
from hw3.detection.dataset import read_gtsdb
from hw3.detection.simulate import simulate_gtsdb


def test_units_that_were_silenced_are_counted() -> None:
    torch.manual_seed(0)
    settings = profiles.SMOKE.faster_rcnn
    model = experiment.build(settings, "random")
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    before = silent_units.observe(settings, model, [image])
    model.roi_heads.box_head.fc6.bias.data[:5] = -1e6
    model.roi_heads.box_head.fc7.bias.data[:] = -1e6
    after = silent_units.observe(settings, model, [image, image])
    assert before["units"] == after["units"] == {"fc6": 64, "fc7": 64}
    assert before["silent"]["fc6"] < 60
    assert before["silent"]["fc6"] + 3 <= after["silent"]["fc6"] <= before["silent"]["fc6"] + 5
    assert after["silent"]["fc7"] == 64
    assert after["proposals"] == 2 * before["proposals"] > 0
    assert not model.roi_heads.box_head._forward_pre_hooks


def test_the_kept_counts_are_of_committed_runs() -> None:
    for row in json.loads(silent_units.TARGET.read_text())["runs"]:
        [path] = (silent_units.TARGET.parent / "runs").rglob(f"{row['record']}.json")
        assert set(row["images"]) <= set(records.load(path).data["split"]["test"])
        assert all(0 <= row["silent"][name] <= row["units"][name] for name in row["units"])


def test_a_run_is_counted_and_what_is_kept_of_others_stays(tmp_path, monkeypatch) -> None:
    data = simulate_gtsdb(tmp_path / "roads", images=5, seed=0, width=160, height=96)
    settings = replace(profiles.SMOKE.faster_rcnn, crops=4)
    own, _ = experiment.run(
        settings, read_gtsdb(data), kind="simulated", name="try", folder=tmp_path
    )
    record, weights = (tmp_path / f"{own.stem}.{ending}" for ending in ("json", "safetensors"))
    target = tmp_path / "units.json"
    others = [{"record": "another", "proposals": 7}, {"record": record.stem, "proposals": -1}]
    target.write_text(json.dumps({"runs": others}))
    monkeypatch.setattr(silent_units, "TARGET", target)
    monkeypatch.setattr("sys.argv", ["silent_units.py", f"{record}={weights}={data}"])
    silent_units.main()
    kept, counted = json.loads(target.read_text())["runs"]
    assert kept == others[0] and counted["record"] == record.stem
    assert counted["proposals"] > 0 and set(counted["images"]) <= set(own.data["split"]["test"])


@pytest.mark.parametrize("arguments", [[], ["run.json"], ["a=b"], ["nowhere=b=c"]])
def test_a_wrong_call_ends_with_a_sentence(arguments, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(silent_units, "TARGET", tmp_path / "units.json")
    monkeypatch.setattr("sys.argv", ["silent_units.py", *arguments])
    with pytest.raises(SystemExit, match=r"RECORD=WEIGHTS|nowhere"):
        silent_units.main()
    assert not silent_units.TARGET.exists()
