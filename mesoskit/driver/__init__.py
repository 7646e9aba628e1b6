"""What the author of a framework imports: a scheduler's and an executor's driver."""
