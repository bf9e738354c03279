"""What generation needs of others."""
