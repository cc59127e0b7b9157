"""Image anomaly detection learnt from normal images only, by latent space resampling.

Wang, Zhang, Guo, Han: Image Anomaly Detection Using Normal Data Only by Latent Space
Resampling. Applied Sciences 2020, 10, 8660.
"""

__version__ = "0.1.0"  # as in pyproject.toml, which a job on a cluster does not have
