"""People, projects and their API keys. Knows nothing of data or work."""
