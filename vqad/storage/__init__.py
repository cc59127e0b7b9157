"""Read and write files and objects, with retries, conditional writes and a lease."""
