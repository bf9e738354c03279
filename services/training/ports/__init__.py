"""What training needs from others: providers of data and plans, and an engine that trains."""
