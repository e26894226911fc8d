"""Files that others made -> tensors and plain values: nothing in them is run, and no more memory is taken than they declare.

``files`` opens what is a regular file; ``archives`` finds the one directory of a zip file; ``pickles`` interprets pickles;
``checkpoints`` reads what torch.save wrote; ``arrays`` reads named arrays of any format; ``yaml`` reads YAML.
"""
