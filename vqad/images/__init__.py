"""From a storage prefix to pixels: listing, shards, manifests, categories, headers, decoding."""
