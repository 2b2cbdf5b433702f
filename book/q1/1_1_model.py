# %% [markdown]
# # The model
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section shows the idea: a U-Net whose contracting path was trained on photographs and is not trained again.
# It counts what is left to train, and checks that the frozen part stays as it was.

# %% tags=["hide-input"]
# Set-up: does nothing outside Google Colab, and touches neither torch nor numpy.
import os
import subprocess
import sys
import zipfile
from glob import glob
from importlib.metadata import distributions
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

REPOSITORY, FOLDER, CONTENT = "", "book/q1", Path("/content")
LIGHT = "accelerate albumentations imagecodecs matplotlib nilearn requests safetensors tifffile"
LIGHT += " tqdm tyro"
if find_spec("google") and find_spec("google.colab"):
    from google.colab import drive, files

    home = CONTENT / "hw3"
    if not home.exists() and REPOSITORY:
        subprocess.run(["git", "clone", "--quiet", "--depth=1", REPOSITORY, home], check=True)
    elif not home.exists():
        print("Choose hw3-colab.zip, the bundle that `make colab` writes.")
        zipfile.ZipFile(BytesIO(*files.upload().values())).extractall(home)
    missing = [name for name in LIGHT.split() if not find_spec(name)]
    heavy = [d for d in distributions() if d.name in ("torch", "torchvision", "numpy", "scipy")]
    as_they_are = [f"{d.name}=={d.version}" for d in heavy]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if missing:
        subprocess.run([*pip, *missing, *as_they_are], check=True)
    subprocess.run([*pip, "--no-deps", home], check=True)
    os.environ.setdefault("HW3_PROFILE", "full" if glob("/dev/nvidia[0-9]*") else "sample")
    os.environ.setdefault("HW3_DATA", str(CONTENT / "data"))
    os.environ.setdefault("HW3_RUNS", str(CONTENT / "runs"))
    if Path(os.environ["HW3_RUNS"]).is_relative_to(CONTENT / "drive"):
        drive.mount(str(CONTENT / "drive"))
    os.chdir(home / FOLDER)

# %% tags=["hide-input"]
import torch

from hw3 import profiles
from hw3.segmentation import experiment
from hw3.tables import Markdown, environment, table

settings = profiles.FULL.segmentation
environment(profiles.active())

# %% [markdown]
# ## Two paths and four bridges
#
# A U-Net {cite}`ronneberger2015` has two paths. The contracting path shrinks the image step by step and represents **what** is there. The expanding path grows it back and decides **where**. At each size a skip connection hands the fine detail of the contracting path across, because detail that was pooled away cannot be invented again.
#
# The contracting path here is the convolutional part of VGG16 {cite}`simonyan2015`. Its filters for edges, textures and parts were learned from ImageNet photographs. Using them on another task is *transfer learning*; keeping them fixed is *freezing*. There are two reasons to freeze. With slices of few patients, the encoder's many more free weights invite overfitting. And a part that never changes needs no gradients, which saves both time and memory.
#
# What each block of VGG16 gives, measured on the model itself:

# %% tags=["hide-input"]
torch.manual_seed(settings.seed)
model = experiment.build(settings, "random")
image = torch.rand(1, 3, settings.image_size, settings.image_size)
features = model.encode(image)
rows = [
    [
        f"block {number}",
        " × ".join(map(str, map_.shape[1:])),
        sum(p.numel() for p in block.parameters()),
    ]
    for number, (block, map_) in enumerate(zip(model.encoder, features, strict=True), start=1)
]
table(["VGG16", "output, channels × height × width", "frozen parameters"], rows)

# %% [markdown]
# ## What is trained
#
# Only the expanding path and the last 1 × 1 convolution learn. They get every feature map normalised to mean 0 and variance 1, since VGG16 has no normalisation of its own.

# %% tags=["hide-input"]
total = sum(p.numel() for p in model.parameters())
trained = sum(p.numel() for p in model.trained_parameters())
Markdown(
    f"**{trained:,}** of {total:,} parameters are trained; {100 * (1 - trained / total):.1f} % are frozen."
)

# %% [markdown]
# ## Frozen means frozen
#
# A frozen encoder can thaw by accident: through an optimiser that holds its weights, or through batch statistics that `train()` switches on. So we take one training step with a large learning rate and compare.

# %% tags=["hide-input"]
before = {name: value.clone() for name, value in model.state_dict().items()}
optimizer = torch.optim.SGD(model.trained_parameters(), lr=1.0)
model.train()(image).mean().backward()
optimizer.step()
after = model.state_dict()
moved = {name for name in before if not torch.equal(before[name], after[name])}
table(
    ["part", "tensors", "changed by one step"],
    [
        [part, len(names), len(names & moved)]
        for part in ("encoder", "decoder", "head")
        if (names := {name for name in before if name.startswith(part)})
    ],
)

# %% [markdown]
# The network above has the report's size, and random weights: its shapes do not depend on them. In this book's own runs the weights depend on the profile. The sample profile needs no download, so its VGG16 is **random** and frozen, and the decoder has to make do with random features; {doc}`1_4_network` lists what else it reduces. The full profile takes torchvision's `IMAGENET1K_FEATURES`, which are the original weights of the VGG group, the same that Keras ships.
#
# ## What this section showed
#
# The model is one fixed pair of eyes and a small trained part behind it. One step changes the trained part and leaves every tensor of the encoder as it was.
