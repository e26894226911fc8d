"""What finished cells hold, and what is concluded from them."""
