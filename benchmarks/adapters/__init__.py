"""One file for each implementation, with what it does for either family; `EM` in it names the classes."""
