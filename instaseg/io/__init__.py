"""Files: arrays of all formats behind one reader and one writer, samples, text files."""
