"""The methods that are compared, ours and others; each is a function of a link and a seed."""
