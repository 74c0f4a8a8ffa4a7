"""Time tags: one internal form, and what turns other forms into it."""
