"""The sections of a configuration, one frozen model each: every key with its range and meaning."""
