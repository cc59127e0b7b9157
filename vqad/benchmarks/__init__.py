"""Measure how fast this machine trains, resamples and inspects."""
