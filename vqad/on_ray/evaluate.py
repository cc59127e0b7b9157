"""Inspecting test images for an evaluation, through the same pipeline as a night's."""

import hashlib
import json
from collections.abc import Sequence

from vqad import archives
from vqad.detector import current_version
from vqad.on_ray.inspect import InspectJob
from vqad.routing import Routing


def jobs_for(data: str, models: str, output: str, categories: Sequence[str]) -> list[InspectJob]:
    """One job a category, all into one folder that is named after detectors and images.

    So that verdicts of an older detector, or of other pictures, are never taken for these.
    """
    tests = {category: archives.join(data, category, "test") for category in categories}
    shaping = [
        [
            current_version(models, category),
            [[each.image, each.etag] for each in archives.list_images(tests[category])],
        ]
        for category in categories
    ]
    digest = hashlib.sha256(json.dumps(shaping).encode()).hexdigest()
    folder = archives.join(output, f"inspected-{digest[:12]}")
    return [
        InspectJob(
            archive=tests[category],
            models=models,
            output=folder,
            routing=Routing(category=category),
        )
        for category in categories
    ]
