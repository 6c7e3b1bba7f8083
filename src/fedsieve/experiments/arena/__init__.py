"""The arena: every rule against every attack, on one task, for several f and seeds."""
