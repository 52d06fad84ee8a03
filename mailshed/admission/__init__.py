"""May it enter now? Policy decides for one message, the scheduler orders those that wait."""
