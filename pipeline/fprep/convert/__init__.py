"""`fprep convert`: raw folder to validated table."""
