"""`fprep convert`: a raw folder to a validated table."""
