"""Reader for Fashionpedia."""
