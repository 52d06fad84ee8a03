"""Limits that others have published, to measure ours against: same slots, same mail, same seeds."""
