"""Keep it safe: messages that were acknowledged and that the backend does not have yet."""
