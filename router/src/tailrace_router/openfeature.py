"""Do: the route of reads as a flag of OpenFeature (extra `openfeature`): true means the target.

Invariant: it answers from what the router knows and never raises: without a key the answer is the source's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.hook import Hook
from openfeature.provider import AbstractProvider, Metadata

from tailrace_router.route import HASH_VERSION, Side, bucket
from tailrace_router.router import Router

FLAG = "tailrace.read_target"


class RouterProvider(AbstractProvider):
    """`group`: as the router's; the targeting key is the id."""

    def __init__(self, router: Router, *, group: str = "user") -> None:
        super().__init__()
        self._router = router
        self._group = group

    def get_metadata(self) -> Metadata:
        return Metadata(name="tailrace-router")

    def get_provider_hooks(self) -> list[Hook]:
        return []

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        key = evaluation_context.targeting_key if evaluation_context is not None else None
        if flag_key != FLAG:
            return _unknown(default_value)
        route = self._router.state().route
        told: Mapping[str, Any] = {"epoch": route.epoch, "read_share": route.read_share, "hash_version": HASH_VERSION}
        if not key:
            return FlagResolutionDetails(False, variant=Side.SOURCE.value, reason=Reason.DEFAULT, flag_metadata=told)
        side = self._router.read_side(key, group=self._group)
        return FlagResolutionDetails(
            side is Side.TARGET,
            variant=side.value,
            reason=Reason.SPLIT if self._router.state().fresh else Reason.STALE,
            flag_metadata={**told, "bucket": bucket(self._group, key)},
        )

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return _unknown(default_value)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return _unknown(default_value)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return _unknown(default_value)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return _unknown(default_value)


def _unknown(value: Any) -> FlagResolutionDetails[Any]:
    return FlagResolutionDetails(value, reason=Reason.ERROR, error_code=ErrorCode.FLAG_NOT_FOUND)
