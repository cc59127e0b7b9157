"""From codes to a verdict: anomaly map, score, surprisal, calibration, settings, weights."""
