# %% [markdown]
# # Implementation of the network
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# What exactly is built, and with which settings is it trained?
# {numref}`fig-1-3` is read off the model by one forward pass; the table lists all in which our recipe departs from the report's.

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

colab.set_up("book/q1")

# %% tags=["hide-input"]
from hw3 import plots
from hw3.segmentation import experiment
from hw3.settings import RECIPES
from hw3.tables import differences

# %% mystnb={"figure": {"name": "fig-1-3", "caption": "The structure of the network: output shapes (channels \u00d7 height \u00d7 width) and weights, frozen or trained, as measured on the model."}, "image": {"alt": "A U-shaped diagram. Five grey boxes, the frozen blocks of VGG16, go down the left side. Four blue boxes, the trained decoder levels, come up the right side. An arrow leads across from each of the upper four grey boxes to the blue box beside it. A last blue box, a 1 by 1 convolution, gives one channel at full size."}}
settings = RECIPES["report"]["unet"]
model = experiment.build(settings)
plots.architecture(model, settings.image_size)

# %% [markdown]
# ## Reading the figure
#
# Down the left, VGG16 halves the image four times. Each level of the decoder doubles the size by repeating pixels, joins the map of that size from the left, and applies two 3 × 3 convolutions, each with BatchNorm and ReLU. The last convolution gives one number a pixel, a *logit*: above 0 means tumour more likely than not.
#
# Three choices are ours, since the report does not state them. Maps are normalised before they are joined, because nothing in VGG16 does. The upsampling has no weights, which avoids the checkerboard that transposed convolutions can leave. And the last bias starts at −4, which is a probability of about 0.02: tumour is rare, and from 0.5 everywhere the network first has to learn to be quiet.
#
# ## Two recipes
#
# The recipe `report` has what the report states, and defaults for the rest; `ours` is what we found to work better. Without a GPU, pages run a reduced `ours`, a lighter network of the same structure on smaller pictures.

# %%
differences({name: own["unet"].model_dump() for name, own in RECIPES.items()})

# %% [markdown]
# `crops` are squares cut out of training slices: half of them are laid around a tumour, and a square of half the side costs a quarter of the arithmetic. A network of convolutions that learned on crops can be run on whole slices.
