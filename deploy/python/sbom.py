"""Holds a bill of materials against the schema of CycloneDX: `sbom.py FILE`. Exit status 1 where something is wrong."""

import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(sys.argv[1]).read_text())
if error is not None:
    sys.exit(f"{sys.argv[1]}: {str(error).splitlines()[0]}")
print(f"{sys.argv[1]} is CycloneDX 1.6")
