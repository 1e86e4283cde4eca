"""The work of each command, end to end."""
