"""The round loop for a whole cohort on one machine."""
