"""Labels for frames of speech: recordings and their text become one of Kaldi's data folders."""
