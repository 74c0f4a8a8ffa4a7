"""What the contract suite has to know of each kind of instrument; one module a kind."""
