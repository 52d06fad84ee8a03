"""What the control system does, on a virtual clock: failure modes, and the comparison."""
