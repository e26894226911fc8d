"""From the cells of a study to their finished records."""
