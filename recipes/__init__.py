"""How shipped artifacts were made."""
