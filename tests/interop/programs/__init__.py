"""Small programs that send one message with the SMTP library of a language, as its manual says.

Each is given the path of a JSON file (`Job` in `tests.interop.clients`), exits with 0 if the server
has taken the message, and else writes what the library says of it and exits with another status.
"""
