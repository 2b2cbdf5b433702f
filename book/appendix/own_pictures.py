# %% [markdown]
# # Your own pictures
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# What do the trained networks say about a photograph of a road, or a slice of a brain, that is yours?
# This page asks those that come with the package; it uses simulated pictures until you name others.

# %% tags=["hide-input"]
# Set-up: gets the package on Google Colab; elsewhere it only goes to this notebook's folder.
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, is_zipfile

while "google.colab" in sys.modules and not Path("/content/hw3/colab.py").exists():
    from google.colab import files

    print("Choose hw3-colab.zip as `make colab` writes it; no other file will do.")
    for bundle in filter(is_zipfile, map(BytesIO, files.upload().values())):
        ZipFile(bundle).extractall("/content")
from hw3 import colab

colab.set_up("book/appendix")

# %%
import sys
from pathlib import Path

from hw3 import plots, records
from hw3.data import InputError, read_picture
from hw3.detection import experiment as detection
from hw3.segmentation import experiment as segmentation
from hw3.settings import data_folder

# %% [markdown]
# ## A photograph
#
# Put the name of a file between the quotes. On Colab, the cell asks for one; cancel, and the simulated road is taken.

# %%
photograph = "../_static/road.jpg"
if "google.colab" in sys.modules:
    from google.colab import files

    photograph = next(iter(files.upload()), photograph)

image = read_picture(Path(photograph))
record = records.shipped("faster-rcnn")
settings, detector = detection.load(record)
found = detection.to_coco(0, detection.search(settings, detector, image))
sure = [one for one in found if one["score"] >= 0.5]

# %% mystnb={"figure": {"name": "fig-own-road", "caption": "What Faster R-CNN finds with a score of at least 0.5. Here: a simulated road."}, "image": {"alt": "A street with houses. Boxes with a group and a score lie around traffic signs."}}
plots.found_signs(image, sure)

# %% [markdown]
# The network has learned German signs, in four groups; `records.shipped("ssd300")` takes the other detector. Most of its errors are false alarms, some of them with a high score ({doc}`../q3/3_2_detector_errors`).
#
# ## A slice
#
# The network expects what LGG has: in red, green and blue the slice before contrast agent, FLAIR, and after contrast agent. A grey FLAIR slice stands for all three. Its encoder is torchvision's VGG16, which is downloaded once (or lies in the data folder as `vgg16_features.safetensors`).

# %%
slice_file = "../_static/slice.png"
kept = data_folder() / "vgg16_features.safetensors"

image = read_picture(Path(slice_file))
try:
    record, encoder = records.shipped("unet"), str(kept) if kept.exists() else "imagenet"
    settings, unet = segmentation.load(record, encoder_weights=encoder)
    tumour = segmentation.segment(settings, unet, image)
except InputError as fault:  # no network, say
    tumour = None
    print(fault)

# %% mystnb={"figure": {"name": "fig-own-slice", "caption": "What the U-Net outlines (orange), and its probabilities. Here: a simulated slice."}, "image": {"alt": "A brain slice with a bright lesion, which an orange line surrounds; beside it a map of probabilities, bright in the same place."}}
None if tumour is None else plots.found_tumour(image, tumour)

# %% [markdown]
# The terms of its weights, and what the networks are no good for, are on {doc}`cards`.
#
# For many files there is `python -m hw3 predict`, which writes its results into the folder that `--to` names.
