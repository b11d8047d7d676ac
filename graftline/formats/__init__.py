"""The trained model in other formats: how each file is made, what it tells, how good it is."""
