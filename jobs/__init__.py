"""What is submitted to a cluster: one command a module."""
