"""The papers, one folder each: their studies as data, their findings as checks, and their figures."""
