"""Where labels meet results: ground truth, metrics, baselines, figures and tables."""
