"""The commands: one module each, and how they get their options, help and exit codes."""
