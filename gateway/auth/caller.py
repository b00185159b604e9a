"""The caller of a request, and what it may do."""

from enum import StrEnum

from msgspec import Struct

from gateway.limits.quota import Quota


class Scope(StrEnum):
    """The permissions of a key: use models, administer the service, read the metrics."""

    INFER = "infer"
    ADMIN = "admin"
    METRICS = "metrics"


class Caller(Struct, frozen=True, kw_only=True):
    """A client: `id` is for logs, fairness and limits; `models` are names that it may use, all of them if `None`.

    `priority` is the highest that its requests may have.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    models: frozenset[str] | None = None
    quota: Quota = Quota()
    priority: int = 0

    def may(self, scope: Scope) -> bool:
        """Tell whether it has `scope`; an admin has all."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def quota_or(self, default: Quota) -> Quota:
        """Return the caller's own quota, or the default where it has none."""
        return default if self.quota.is_open else self.quota


ANONYMOUS = Caller(id="", name="anonymous", scopes=frozenset(Scope))
