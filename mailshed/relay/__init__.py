"""Hand it to the backend now: slots, connections, one mail transaction at a time each."""
