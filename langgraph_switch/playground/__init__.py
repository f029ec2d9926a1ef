"""A page to watch checkpoints take turns, and to try what another speaker would have made of it."""
