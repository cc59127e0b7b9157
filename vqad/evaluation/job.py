"""The options of one evaluation, each declared once: `vqad evaluate` derives its flags from them.

A field with ``help`` in its metadata is a flag of the command; ``metavar`` names the kind of value
where the type does not say it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vqad.storage import uris


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """The options of one `vqad evaluate`."""

    data: str = field(
        metadata={
            "help": "folder with test images and masks: DATA/CATEGORY/test/{good,DEFECT}/* and "
            "DATA/CATEGORY/ground_truth/DEFECT/NAME_mask.png, or VisA as it is published",
            "metavar": "URI",
        }
    )
    models: str = field(  # "" where only finished tables are read
        default="",
        metadata={
            "help": "folder with the detectors; default: none, which needs --verdicts",
            "metavar": "URI",
        },
    )
    output: str = field(
        metadata={
            "help": "folder that tables, figures and evaluation.json are written to",
            "metavar": "URI",
        }
    )
    categories: Sequence[str] = ()  # none for all that have test images and a detector
    verdicts: str = ""  # output of a finished inspection; "" to inspect into `inspected`
    baselines: bool = field(
        default=False,
        metadata={
            "help": "also fit and measure the autoencoders AE-L2 and AE-SSIM, and local statistics "
            "alone; needs the training images"
        },
    )
    ablations: bool = field(
        default=False,
        metadata={
            "help": "also measure the method with one part left out at a time; needs the training "
            "images"
        },
    )

    def __post_init__(self) -> None:
        """Refuse options that need detectors if there are none."""
        if not self.models and not self.verdicts:
            raise ValueError("--models is required, or --verdicts of a finished inspection")
        if not self.models and (self.baselines or self.ablations):
            raise ValueError("baselines and ablations need the detectors: give --models")

    @property
    def inspected(self) -> str:
        """The output of the inspection that is evaluated."""
        return self.verdicts or uris.join(self.output, "inspected")
