"""One file per published algorithm: a composition of the rooms below."""
