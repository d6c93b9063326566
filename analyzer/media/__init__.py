"""Reading and writing media."""
