"""Question 1: a U-Net with a frozen VGG16 encoder outlines brain tumours in MRI slices."""
