"""Starts Arize Phoenix on loopback alone.

Phoenix takes its HTTP host from PHOENIX_HOST, but its gRPC server, which nobody needs
here, listens on every address of the machine. It is left out.
"""

import sys

from phoenix.server import grpc_server
from phoenix.server.main import main


async def without_grpc(_server):
    """As of a server that is disabled."""


if not hasattr(grpc_server.GrpcServer, "__aenter__"):
    sys.exit("this Phoenix starts its gRPC server otherwise; it would listen beyond loopback")
grpc_server.GrpcServer.__aenter__ = without_grpc
sys.argv = ["phoenix", "serve"]
main()
