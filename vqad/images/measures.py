"""The names of what is measured of each image for comparing nights; see `images.appearance`."""

from typing import Final

MEASURES: Final = ("brightness", "contrast", "sharpness")
