"""What people and BI tools read."""
