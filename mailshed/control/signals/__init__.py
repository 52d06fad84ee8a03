"""Measurements of the world that the control loop feeds to the core."""
