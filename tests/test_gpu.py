"""Training and looking on a CUDA GPU; each test in a process of its own, which sees the GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hw3 import records

pytestmark = pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="needs a CUDA GPU")


def on_gpu(*arguments: str, folder: Path) -> str:
    environment = {key: own for key, own in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    environment |= {"HW3_PROFILE": "smoke", "HW3_RUNS": str(folder)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("precision", ["auto", "no", "fp16"])
@pytest.mark.parametrize("model", ["unet", "faster-rcnn", "ssd300"])
def test_the_command_line_trains_and_scores(tmp_path, model, precision) -> None:
    options = ["--mixed-precision", precision, "--workers", "1", "--record", str(tmp_path / "run")]
    on_gpu("-m", "hw3", "train", model, *options, folder=tmp_path)
    record = records.load(tmp_path / "run")
    assert not record.hardware["device"].startswith("CPU")
    used = record.hardware["mixed_precision"]
    assert used in ("bf16", "fp16") if precision == "auto" else used == precision
    assert all(entry.get("train", entry)["loss"] > 0 for entry in record.history)
    assert record.results


INTERRUPTED = """
import signal
from hw3 import training
from hw3.__main__ import main
save = training._Run._save
def stop(run):
    save(run)
    if run.epoch == 1 and run.steps == 0:
        signal.raise_signal(signal.SIGINT)
training._Run._save = stop
assert main(["train", "unet", "--epochs", "3"]) == 130
training._Run._save = save
assert main(["train", "unet", "--epochs", "3"]) == 0
"""


def test_an_interrupted_run_goes_on(tmp_path) -> None:
    assert "going on from epoch 2, step 1" in on_gpu("-c", INTERRUPTED, folder=tmp_path)
    (path,) = tmp_path.glob("unet-*.json")
    assert [entry["epoch"] for entry in records.load(path).history] == [1, 2, 3]
