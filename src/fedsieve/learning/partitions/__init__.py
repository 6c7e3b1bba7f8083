"""Ways of dividing a data set among clients, one file each."""
