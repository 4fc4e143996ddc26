"""One module for each revision. They spell out the tables of their time, which `rayfed.schema` no longer has."""
