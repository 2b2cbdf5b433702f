"""The benchmark runs; what it measures is not looked at."""

import json

import detectors
from hw3.settings import SsdSettings

KEPT = json.loads(detectors.TARGET.read_text())


def test_a_detector_is_measured_in_a_process_of_its_own(tmp_path, monkeypatch) -> None:
    small = SsdSettings(weights="random", frozen_blocks=0, width=1 / 16, crops=8)
    monkeypatch.setattr(detectors, "detectors", lambda: [("small", small)])
    monkeypatch.setattr(detectors, "TARGET", tmp_path / "costs.json")
    for name, value in (("WIDTH", 320), ("HEIGHT", 192), ("LOOKS", 1)):
        monkeypatch.setattr(detectors, name, value)
    detectors.main()
    made = json.loads((tmp_path / "costs.json").read_text())
    assert made["image"] == [320, 192] and made["looks"] == 1 and made.keys() == KEPT.keys()
    [row] = made["detectors"]
    assert row.keys() == KEPT["detectors"][0].keys() and row["detector"] == "small"
    assert 0 < row["weights_megabytes"] < 10 and row["peak_megabytes"] > 0 < row["seconds"]
