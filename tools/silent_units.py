"""Count the box heads' silent units: python tools/silent_units.py RECORD=WEIGHTS=DATA ...

A unit behind a ReLU that is 0 for every proposal hands nothing on and gets no gradient. Writes
book/silent_units.json, since neither the photographs nor the weights are in the book; what it
holds of other records stays, as their weights may be on another machine.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hw3 import records, runs, training
from hw3.detection import experiment
from hw3.detection.dataset import read_gtsdb
from hw3.errors import InputError
from hw3.profiles import FasterRcnnSettings

TARGET = Path(__file__).resolve().parent.parent / "book/silent_units.json"
IMAGES = 12  # evenly spaced through the test images with signs
LAYERS = ("fc6", "fc7")


def observe(
    settings: FasterRcnnSettings, model: nn.Module, images: list[np.ndarray]
) -> dict[str, Any]:
    """How many proposals reach the box head, the size of their features, and its silent units.

    Args:
        settings: of the model.
        model: in evaluation mode.
        images: each (height, width, 3) uint8.
    """
    head = model.roi_heads.box_head
    seen: dict[str, list[Tensor]] = {name: [] for name in ("features", *LAYERS)}
    handles = [
        getattr(head, name).register_forward_hook(
            lambda _layer, _inputs, outputs, name=name: seen[name].append(outputs)
        )
        for name in LAYERS
    ]
    handles.append(
        head.register_forward_pre_hook(lambda _head, inputs: seen["features"].append(inputs[0]))
    )
    for image in images:
        experiment.detect(settings, model, image)
    for handle in handles:
        handle.remove()
    found = {name: torch.cat(parts) for name, parts in seen.items()}
    return {
        "proposals": len(found["features"]),
        "feature_deviation": round(found["features"].std().item(), 3),
        "units": {name: found[name].shape[1] for name in LAYERS},
        "silent": {name: int((found[name] <= 0).all(0).sum()) for name in LAYERS},
    }


def main() -> None:
    """Look at each run that is named."""
    named = [own.split("=") for own in sys.argv[1:]]
    if not named or any(len(own) != 3 for own in named):
        sys.exit(__doc__)
    try:
        rows = []
        for path, weights, data in (map(Path, own) for own in named):
            record, dataset = records.load(path), read_gtsdb(data)
            runs.check_weights(record, weights)
            settings = experiment.settings_of(record)
            if not isinstance(settings, FasterRcnnSettings):
                raise InputError(f"{path}: no run of Faster R-CNN, which alone has a box head")
            if dataset.fingerprint != record.data["fingerprint"]:
                raise InputError(f"{data}: these are not the data of record {record.name}")
            model = experiment.build(settings, "random")
            model = runs.trained(model, weights, training.make_accelerator("no"))
            shown = experiment.example_images(record, IMAGES)
            number = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
            images = [dataset.image(number[image_id]) for image_id in shown]
            row = {"record": path.stem, "commit": records.provenance()["commit"], "images": shown}
            rows.append(row | observe(settings, model, images))
    except InputError as error:
        sys.exit(str(error))
    kept = json.loads(TARGET.read_text())["runs"] if TARGET.exists() else []
    runs_by_name = {row["record"]: row for row in [*kept, *rows]}
    made = {"made_by": "python tools/silent_units.py", "runs": list(runs_by_name.values())}
    TARGET.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
