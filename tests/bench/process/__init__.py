"""What one process may use: memory, and time of its event loop. See `__main__`."""
