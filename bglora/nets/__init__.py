"""Networks that are written here, and reading what others published for them."""
