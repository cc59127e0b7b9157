"""Fitting one category: data set, augmentation, training loops, held-out split, events."""
