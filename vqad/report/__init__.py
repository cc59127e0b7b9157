"""The page about a night, made from OUTPUT: counts, plots, and cards with pictures."""
