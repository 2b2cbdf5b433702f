# %% [markdown]
# # The model
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# Why put a network that was trained on photographs into one for brain slices, and not train it again?
# This section explains the model, counts what is left to train, and checks that the frozen part stays as it was.

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
import torch

from hw3.segmentation import experiment
from hw3.settings import RECIPES
from hw3.tables import table

# %% [markdown]
# ## Two paths and four bridges
#
# A U-Net {cite}`ronneberger2015` has two paths. The contracting path shrinks the image step by step and represents **what** is there. The expanding path grows it back and decides **where**. At each size a skip connection hands the fine detail of the contracting path across, because detail that was pooled away cannot be invented again.
#
# The contracting path here is the convolutional part of VGG16 {cite}`simonyan2015`. Its filters for edges, textures and parts were learned from the photographs of ImageNet. Using them on another task is *transfer learning*; keeping them fixed is *freezing*. There are two reasons to freeze. With slices of few patients, the many free weights of this path invite overfitting. And a part that never changes needs no gradients, which saves time and memory.
#
# As far as one can tell, the report follows Pravitasari et al. {cite}`pravitasari2020`, who put a frozen VGG16 into a U-Net for the MRI of one hospital. They give no Dice, and nothing on the LGG slices.
#
# ## Frozen means frozen
#
# Only the expanding path, here the decoder, and its last convolution, the head, are trained. A frozen path can thaw by accident: through an optimiser that holds its weights, or through statistics that training mode switches on. So we take one step at a huge learning rate, and compare each tensor before and after. The weights are drawn at random, since this does not depend on them.

# %%
torch.manual_seed(0)
model = experiment.build(RECIPES["report"]["unet"], encoder_weights="random").train()
before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
optimizer = torch.optim.SGD(model.trained_parameters(), lr=1.0)
model(torch.rand(1, 3, 256, 256)).mean().backward()
optimizer.step()

# %%
changed = {name for name, own in model.state_dict().items() if not torch.equal(own, before[name])}
rows = []
for part, module in model.named_children():
    names = {name for name in before if name.startswith(part)}
    weights = sum(parameter.numel() for parameter in module.parameters())
    rows.append([part, weights, len(names), len(names & changed)])
table(["part", "weights", "tensors", "changed by one step"], rows)

# %% [markdown]
# No tensor of the encoder, which is VGG16, has changed, and every other has. The normalisation between the two paths has no weights; it keeps the mean and variance of VGG16's features, which are large and uneven, and follows the slices. Nearly four fifths of all weights are frozen.
#
# On real data this book starts from the weights that the inventors of VGG16 published, which torchvision calls `IMAGENET1K_FEATURES` and Keras ships as well. Its pages must run without a download, so that their VGG16 is smaller, **random**, and frozen all the same: the decoder has to make do with random features.
