"""Training and looking on a CUDA GPU; each test in a process of its own, which sees the GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hw3 import records

pytestmark = pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="needs a CUDA GPU")
MODELS = ("unet", "faster-rcnn", "ssd300")


def on_gpu(*arguments: str, folder: Path) -> str:
    environment = {key: own for key, own in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    environment |= {"HW3_PROFILE": "smoke", "HW3_RUNS": str(folder)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("precision", ["auto", "no", "fp16"])
@pytest.mark.parametrize("model", MODELS)
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


AGREEMENT = """
import json
import torch
from hw3.detection.models import build_faster_rcnn, build_ssd300
from hw3.segmentation.model import UNetVGG16
torch.backends.cudnn.allow_tf32 = False
torch.manual_seed(0)
detectors = [
    build_faster_rcnn(backbone="vgg16-fpn", weights="random", width=1 / 8),
    build_ssd300(weights="random", width=1 / 8),
]
images, apart = torch.rand(1, 3, 304, 304), []
for network in [UNetVGG16("random"), *(model.backbone for model in detectors)]:
    with torch.no_grad():
        cpu, gpu = network.cpu().eval()(images), network.cuda()(images.cuda())
    if isinstance(cpu, dict):
        cpu, gpu = (torch.cat([own.flatten() for own in maps.values()]) for maps in (cpu, gpu))
    apart.append(float((cpu - gpu.cpu()).abs().max() / cpu.abs().max()))
print(json.dumps(apart))
"""


def test_in_full_precision_it_computes_what_the_cpu_computes(tmp_path) -> None:
    apart = json.loads(on_gpu("-c", AGREEMENT, folder=tmp_path))
    assert max(apart) < 1e-3, dict(zip(MODELS, apart, strict=True))
