"""How parts of a testbed are named in its file."""

from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
"""Name of an instrument, a knob, an intensity or the link."""

State = Annotated[str, Field(pattern=r"^[HVDA]$")]
"""Letter of a sent state, and of the detector that it should reach."""
