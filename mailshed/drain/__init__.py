"""Hand spooled mail over later: when to try again, when to give up, and how to tell the sender."""
