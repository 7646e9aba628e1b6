"""What a newcomer runs and copies."""
