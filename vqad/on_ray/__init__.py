"""The only code that imports Ray: training side by side, and the inspection pipeline."""
