"""What the language model adds to the log: vectors, descriptions and keywords, readings of histories."""
