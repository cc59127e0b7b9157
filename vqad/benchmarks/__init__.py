"""How fast this machine trains, resamples and inspects."""
