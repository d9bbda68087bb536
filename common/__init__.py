"""What both sides share; imports neither of them."""
