"""The frozen tasks: what is aligned, what a method may see of it, and how it is judged."""
