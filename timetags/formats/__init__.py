"""File formats of time tags, one module each; ``timetags.files`` is their one face."""
