"""Verdicts and regions for other programs: masks as PNG, and COCO JSON."""
