"""Keep what a run of profile start has learned: python tools/start_weights.py RUN.json ...

Writes hw3/weights/start_<model>.safetensors, with matrices and kernels in half precision, and
the record to book/runs/simulated. The runs are made by
HW3_PROFILE=start python -m hw3 train faster-rcnn|ssd300 --name start-faster-rcnn|start-ssd300
"""

import sys
from pathlib import Path

import safetensors.torch
import torch

from hw3 import records
from hw3.backbones import read_state
from hw3.data import InputError, write_atomically

ROOT = Path(__file__).resolve().parent.parent


def halve(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices and kernels as float16; what has one dimension stays: variances may exceed 65504."""
    return {name: value.half() if value.dim() > 1 else value for name, value in state.items()}


def keep(path: Path, root: Path = ROOT) -> Path:
    """Write weights and record of one run into the tree at `root`; return the weights' path."""
    record, source = records.load(path), path.with_suffix(".safetensors")
    records.check_weights(record, source)
    stem = f"start_{record.settings['model'].replace('-', '_')}"
    target = root / f"hw3/weights/{stem}.safetensors"
    made = safetensors.torch.save(halve(read_state(source)), metadata={"run": record.stem})
    write_atomically(target, made)
    record.save(root / f"book/runs/simulated/{record.name}.json")
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
