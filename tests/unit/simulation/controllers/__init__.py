"""Known controllers, step by step, against numbers worked out by hand."""
