"""Compare results with labels: ground truth, metrics, baselines, figures and tables."""
