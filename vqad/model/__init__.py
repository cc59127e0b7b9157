"""The networks and the resampling algorithms. Imports torch alone."""
