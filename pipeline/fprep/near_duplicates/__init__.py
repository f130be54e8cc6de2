"""Images that look the same; used by convert (splits) and audit."""
