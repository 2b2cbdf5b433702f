"""Put the weights of runs into the package: python tools/ship_weights.py RUN.json ...

Writes hw3/weights/<model>.safetensors, with matrices and kernels in half precision, and beside it
what `predict` has to know of the run. Of a U-Net all but the encoder is kept, which is published.
A run of HW3_PROFILE=start python -m hw3 train MODEL --name start-MODEL becomes
start_<model>.safetensors, and its record goes to book/runs/simulated.
"""

import sys
from pathlib import Path

import safetensors.torch
import torch

from hw3 import records
from hw3.backbones import read_state
from hw3.data import InputError, file_sha256, write_atomically
from hw3.segmentation.experiment import ENCODER_NORMS, encoder_norms

ROOT = Path(__file__).resolve().parent.parent


def halve(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices and kernels as float16; what has one dimension stays: variances may exceed 65504."""
    return {name: value.half() if value.dim() > 1 else value for name, value in state.items()}


def keep(path: Path, root: Path = ROOT) -> Path:
    """Write weights and record of one run into the tree at `root`; return the weights' path."""
    record, source = records.load(path), path.with_suffix(".safetensors")
    records.check_weights(record, source)
    start, model = record.name.startswith("start-"), record.settings["model"]
    stem = f"{'start_' * start}{model.replace('-', '_')}"
    target = root / f"hw3/weights/{stem}.safetensors"
    state = read_state(source)
    kept = halve({name: own for name, own in state.items() if not name.startswith("encoder.")})
    if len(kept) < len(state):
        kept[ENCODER_NORMS] = encoder_norms(state)
    write_atomically(target, safetensors.torch.save(kept, metadata={"run": record.stem}))
    if start:
        record.save(root / f"book/runs/simulated/{record.name}.json")
        return target
    record.history, record.results, record.evidence = [], {}, {}
    record.data = {name: record.data[name] for name in ("kind", "note", "fingerprint")}
    record.weights |= {"run_sha256": record.weights["sha256"], "sha256": file_sha256(target)}
    record.save(target.with_suffix(".json"))
    return target


def main() -> None:
    """Keep each run that is named."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        for path in map(Path, sys.argv[1:]):
            print(keep(path))
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
