"""A photo of any size and format through a network, in tiles, and back to a file."""
