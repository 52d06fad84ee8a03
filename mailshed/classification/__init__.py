"""What is it? Ordered rules over evidence name the traffic class of a message."""
