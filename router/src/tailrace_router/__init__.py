"""Where an application reads and writes while it moves from SQLite to PostgreSQL, and back. No other package is needed."""

from tailrace_router.errors import PlaintextRefused, WritesMoving, moved
from tailrace_router.marker import Marker
from tailrace_router.reports import FolderReports, ReportSink
from tailrace_router.route import Route, Side, bucket
from tailrace_router.router import Router, State
from tailrace_router.shadow import Shadow
from tailrace_router.sources import CallableRoute, FileRoute, RouteSource

__all__ = [
    "CallableRoute",
    "FileRoute",
    "FolderReports",
    "Marker",
    "PlaintextRefused",
    "ReportSink",
    "Route",
    "RouteSource",
    "Router",
    "Shadow",
    "Side",
    "State",
    "WritesMoving",
    "bucket",
    "moved",
]
