"""What every part of the configuration is."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

# Amazon's secrets may hold a slash; the address of a server is checked by the engine that asks it
_KEYS_IN_URI = re.compile(r"((?!https?:)\w+://[^/@:]*:[^/@]*|s3[an]?://[^/@:]*:[^@]*)@")


class Section(BaseModel):
    """A part of the configuration: immutable; a key that it does not know is an error, and so are secrets in a URI."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _no_secrets(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``s3a://name:secret@bucket``: each run keeps its configuration in its tables."""
        if isinstance(value, str) and _KEYS_IN_URI.match(value):
            raise ValueError(
                f"{info.field_name} holds a URI with a name and a secret before the @: expected one without. Give them "
                "in the environment, as docs/object_stores.md tells"
            )
        return value
