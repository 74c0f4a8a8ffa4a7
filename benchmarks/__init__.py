"""Frozen benchmark tasks, their peers and their scoring; ``qkdctl bench`` runs them."""
