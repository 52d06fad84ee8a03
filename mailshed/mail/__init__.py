"""The vocabulary of mail: addresses, envelopes, replies, trace lines, content."""
