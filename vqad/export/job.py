"""The options of one export, each declared once: `vqad export` derives its flags from them."""

from dataclasses import dataclass, field
from typing import Literal

from vqad.storage import output_layout

Format = Literal["mask-png", "coco"]


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """The options of one `vqad export`."""

    format: Format = field(
        metadata={
            "help": "mask-png: a black and white picture of the regions of each image; coco: one "
            "JSON file with all images and regions"
        }
    )
    output: str = field(metadata={"help": "output of an inspection", "metavar": "URI"})
    to: str | None = field(
        default=None,
        metadata={
            "help": "folder that the export is written to; default: OUTPUT/export/FORMAT",
            "metavar": "URI",
        },
    )

    @property
    def folder(self) -> str:
        """The folder that the export is written to."""
        return self.to or output_layout.export(self.output, self.format)
