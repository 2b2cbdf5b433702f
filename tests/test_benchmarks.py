"""The benchmarks that use other code of this tree still run; what they measure is not looked at."""

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parent.parent / "benchmarks/average_precision.py"


def test_average_precision_is_set_beside_pycocotools() -> None:
    options = ["--cases", "1", "--images", "4", "--resamples", "2", "--calls", "1"]
    command = [sys.executable, BENCHMARK, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 calls of pycocotools" in done.stdout
