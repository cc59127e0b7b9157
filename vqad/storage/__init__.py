"""Files, folders and objects, and who may write them."""
