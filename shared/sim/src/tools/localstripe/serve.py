"""localstripe on the port of the first argument of this machine alone, with its objects in memory.

It knows an older API than the client speaks. Two parameters are translated, so that everything else can be compared."""

import sys

from aiohttp import web
from localstripe import resources

TAX_IDS = ("GET", "/v1/customers/{id}/tax_ids")


def without_limit(list_tax_ids):
    def list_all(id, limit=None, **filters):
        return list_tax_ids(id, **filters)

    return list_all


def with_old_name(create):
    def create_intent(self, allowed_payment_method_types=None, **fields):
        create(self, payment_method_types=allowed_payment_method_types, **fields)

    return create_intent


resources.extra_apis[:] = [
    (method, path, without_limit(handler) if (method, path) == TAX_IDS else handler)
    for method, path, handler in resources.extra_apis
]
resources.SetupIntent.__init__ = with_old_name(resources.SetupIntent.__init__)
# It would write every object to a file that all instances share.
type(resources.store).dump_to_disk = lambda self: None

# The routes are made of the above.
from localstripe.server import app  # noqa: E402

web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None)
