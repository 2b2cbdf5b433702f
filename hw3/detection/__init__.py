"""Question 2: Faster R-CNN and SSD300 find traffic signs in street scenes."""
