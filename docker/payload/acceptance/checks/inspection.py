"""What the checks share: how one ends, what is known so far, and the bounds that judge."""

import hashlib
import json
import os
import sysconfig
from collections import namedtuple

# An image that is not ours may lack them.
LIBRARIES = ("torch", "transformers", "datasets", "packaging", "torchmetrics")

Check = namedtuple("Check", "id title run needs")
Check.__new__.__defaults__ = (None,)  # `needs`: id of a check whose work this one looks at


class Failure(Exception):
    """A check's number is outside its bound; `fields` say which, what it means and what to do."""

    def __init__(self, **fields):
        super().__init__(fields.get("detail", ""))
        self.fields = fields


class NotRun(Exception):
    """There is nothing to hold it to here, and why; `value` is what was observed all the same."""

    def __init__(self, detail, value=None):
        super().__init__(detail)
        self.fields = {"detail": detail, "value": value}


def silence(*told, **fields):
    """Progress and results for nobody."""


class Inspection:
    """What the checks share: the lock, bounds.json, and what has been observed so far."""

    def __init__(self, lock_file, document, require_gpu=False):
        self.bounds = document["bounds"]
        self.exceptions = document["exceptions"]
        self.require_gpu = require_gpu
        self.facts = {"site_packages": sysconfig.get_paths()["purelib"]}
        self.training = {}
        self.training_error = None
        self.training_processor_seconds = 0.0
        self.on_progress = silence
        self.on_result = silence
        self.lock = None
        if os.path.exists(lock_file):
            with open(lock_file, "rb") as stream:
                text = stream.read()
            self.lock = json.loads(text)
            self.facts["wheel_bytes"] = sum(wheel["size"] for wheel in self.lock["wheels"])
            self.facts["lock"] = "sha256:" + hashlib.sha256(text).hexdigest()

    def stack(self, name, seen=None):
        """A value of the locked stack, to compare what was seen with."""
        if self.lock is None:
            raise NotRun("there is no lock in here to compare with", seen)
        return self.lock["stack"][name]

    @property
    def flavour(self):
        """What the image is for, as the lock says it: "runtime", "devel" or "cpu"; None without a lock."""
        return None if self.lock is None else self.lock["stack"].get("flavour", "runtime")

    def hold(self, check_id, value, detail="", remedy="", **fields):
        """As `judge`, for what only an image of ours promises; in another it is observed."""
        if self.lock is None:
            bad = not within(value, self.bounds[check_id])
            raise NotRun("observed: %s" % detail if bad and detail else "observed; this image promises nothing", value)
        return self.judge(check_id, value, detail, remedy, **fields)

    def judge(self, check_id, value, detail="", remedy="", **fields):
        """The fields of a passed check; raises `Failure` if `value` is outside its bound."""
        bound = self.bounds[check_id]
        fields.update(value=value, bound=bound)
        if not within(value, bound):
            raise Failure(detail=detail, remedy=remedy, **fields)
        return fields


def within(value, bound):
    """Whether a number is inside {"min", "max"}; NaN never is."""
    return bound.get("min", value) <= value <= bound.get("max", value)
