"""Find images in an archive, tell their categories, and decode them to pixels."""
