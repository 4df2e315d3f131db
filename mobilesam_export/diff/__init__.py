"""What changes for an app from one bundle to the next."""
