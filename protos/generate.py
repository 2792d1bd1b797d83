"""Compiles protos/ into aion_extproc (make protos). Needs grpcio-tools."""

import sys
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent


def generate(out: Path) -> None:
    """Write the *_pb2.py and *_pb2.pyi of every .proto under protos/ below `out`."""
    well_known = str(Path(protoc.__file__).parent / "_proto")
    sources = [str(p) for p in sorted(HERE.rglob("*.proto"))]
    args = ["protoc", f"-I{HERE}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}", *sources]
    if protoc.main(args) != 0:
        sys.exit("protoc failed")


if __name__ == "__main__":
    generate(HERE.parent)
