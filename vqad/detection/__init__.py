"""From codes to a verdict: anomaly map, score, surprisal, calibration, settings, stored weights."""
