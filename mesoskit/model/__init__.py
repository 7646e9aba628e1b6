"""The model room: what things are, and what may become of them."""
