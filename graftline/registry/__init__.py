"""The history of models: which is champion, by which test, and the way back."""
