"""Frameworks that come with the library, each standing on the driver and the model alone."""
